from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from made_caches import made_cache, made_query

from vfs_ops.caches import cache_reading
from vfs_ops.caches.cache import Cache
from vfs_ops.caches.shard_sources import Scratch, norm_bytes
from vfs_ops.errors import QueryError
from vfs_ops.scans.plan import plan_scan
from vfs_ops.store.workspace import Workspace


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache of 100 images in shards of 16, of which rows 5 and 90 to 99 are invalid."""
    monkeypatch.setattr(cache_reading, "_LOCAL_REQUEST", 8)
    maps = np.random.default_rng(0).standard_normal((100, 3, 3, 4)).astype(np.float16)
    return made_cache(
        Workspace.in_memory(),
        maps,
        images_per_shard=16,
        images_per_chunk=2,
        invalid=[5, *range(90, 100)],
    )


def test_a_plan_without_a_filter_reads_all_shards_whole(made: Cache) -> None:
    plan = plan_scan(made, threads=3)
    assert (plan.images, len(plan.tasks), plan.ranged, plan.missing) == (89, 6, 0, ())
    assert plan.bytes == made.feature_bytes - made.receipts[6].feature_bytes + 6 * norm_bytes(
        made.plan
    )
    assert plan.memory_bytes == 3 * (made.receipts[0].feature_bytes + norm_bytes(made.plan))
    assert [task.wanted for task in plan.tasks] == [None] * 6
    query = made_query(made, np.ones((2, 2)), np.ones((2, 2, 4), np.float32))
    with_kernel = plan_scan(made, threads=3, queries=[query])
    kernel = 3 * with_kernel.kernel_bytes + with_kernel.query_bytes
    assert with_kernel.memory_bytes == plan.memory_bytes + kernel
    assert "89 images of cache" in repr(plan)
    assert "3 at once" in repr(plan)


def test_a_filter_becomes_shards_and_rows(made: Cache) -> None:
    uris = [f"{row:06d}.jpg" for row in (4, 5, 6, 50, 95)]
    plan = plan_scan(made, where=[("uri", "in", uris)])
    assert [task.receipt.shard for task in plan.tasks] == [0, 3]
    assert [task.wanted.tolist() for task in plan.tasks if task.wanted is not None] == [[4, 6], [2]]
    assert (plan.images, plan.ranged) == (3, 2)
    assert [task.images for task in plan.tasks] == [2, 1]
    assert plan.bytes < made.feature_bytes / 3
    compared = plan.is_compared(np.array([50, 4, 5, 60, 4]))
    assert compared.tolist() == [True, True, False, False, True]


def test_a_filter_that_keeps_most_of_a_shard_reads_it_whole(made: Cache) -> None:
    plan = plan_scan(made, rows=np.arange(100) != 3)
    assert plan.tasks[0].whole
    assert plan.tasks[0].wanted is not None
    assert 3 not in plan.tasks[0].wanted


def test_groups_are_those_of_the_rows(made: Cache) -> None:
    plan = plan_scan(made, unique_by="label")
    groups = np.concatenate([task.groups for task in plan.tasks if task.groups is not None])
    np.testing.assert_array_equal(groups, np.arange(96) % 10)


@pytest.mark.parametrize("threads", [0, -2, 1.5])
def test_impossible_options_are_refused(made: Cache, threads: int) -> None:
    with pytest.raises(QueryError, match="threads"):
        plan_scan(made, threads=threads)


def test_a_filter_of_invalid_images_alone_leaves_nothing(made: Cache) -> None:
    with pytest.raises(QueryError, match=r"1 of 100 match the filter.* 11 without features"):
        plan_scan(made, where=[("uri", "==", "000005.jpg")])


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("rows", [slice(None), slice(0, 140), slice(3, None, 9)])
def test_reading_takes_no_more_memory_than_planned(
    tmp_path: Path, codec: str, copied: bool, rows: slice
) -> None:
    maps = np.random.default_rng(0).standard_normal((256, 7, 7, 64)).astype(np.float16)
    workspace = Workspace.at(str(tmp_path / "w"))
    sizes = {"images_per_shard": 256, "images_per_chunk": 4}
    cache = made_cache(workspace, maps, codec=codec, **sizes)
    if copied:
        cache = cache.cached_locally(tmp_path / "copies")
        cache.source.read(cache.receipts[0], None, None)
    chosen = np.zeros(256, np.bool_)
    chosen[rows] = True
    plan = plan_scan(cache, rows=chosen)
    [task] = plan.tasks
    assert task.whole == (rows == slice(None))
    tracemalloc.start()
    try:
        cache.source.read(task.receipt, task.wanted, Scratch())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    chunks = 3 * 4 * cache.plan.image_bytes  # one as it is decoded, and what is small
    assert plan.shard_bytes / 2 < peak <= plan.shard_bytes + chunks


def test_queries_are_counted(made: Cache) -> None:
    query = made_query(made, np.ones((2, 2)), np.ones((2, 2, 4), np.float32))
    one, many = (plan_scan(made, threads=1, queries=[query] * count) for count in (1, 50))
    assert one.query_bytes > query.pattern.products.nbytes
    assert many.query_bytes > 50 * one.query_bytes  # together, and each alone
    assert many.memory_bytes == many.shard_bytes + many.kernel_bytes + many.query_bytes
