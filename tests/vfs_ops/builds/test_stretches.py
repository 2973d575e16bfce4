from hypothesis import given
from hypothesis import strategies as st
from makers import make_cache_spec, make_plan

from vfs_ops.builds.execution import in_turn
from vfs_ops.builds.stretches import PendingCache, stretches

SPEC = make_cache_spec()


def pending_of(images, sizes):
    return [
        PendingCache(
            layer,
            SPEC,
            make_plan(images=images, images_per_shard=size, images_per_chunk=1, batch_size=4),
        )
        for layer, size in enumerate(sizes)
    ]


@st.composite
def builds(draw):
    images = draw(st.integers(1, 200))
    sizes = draw(st.lists(st.sampled_from([4, 8, 16, 32]), min_size=1, max_size=3))
    pending = pending_of(images, sizes)
    finished = [
        frozenset(draw(st.sets(st.integers(0, cache.plan.shard_count - 1)))) for cache in pending
    ]
    return pending, finished


@given(builds())
def test_exactly_the_missing_shards_are_covered_in_whole_batches(build):
    pending, finished = build
    work = stretches(pending, finished)
    for place, (cache, done) in enumerate(zip(pending, finished, strict=True)):
        missing = set().union(*(stretch.missing[place] for stretch in work))
        assert missing == set(range(cache.plan.shard_count)) - done
        computed = {
            row
            for stretch in work
            for rows in stretch.batches(pending)
            if place in stretch.wanted(pending, rows.start)
            for row in rows
        }
        assert computed == {row for shard in missing for row in cache.plan.shard_rows(shard)}
    batches = [rows for stretch in work for rows in stretch.batches(pending)]
    assert all(rows.start % 4 == 0 for rows in batches)
    assert len({row for rows in batches for row in rows}) == sum(map(len, batches))


@given(builds(), st.integers(0, 4))
def test_builders_do_the_same_in_different_orders(build, rank):
    work = stretches(*build)
    ordered = in_turn(work, rank)
    assert sorted(ordered, key=lambda stretch: stretch.rows.start) == work
    if rank < 2:
        assert ordered == (work if rank == 0 else work[::-1])
    assert in_turn(work, rank) == ordered
