"""Reading parts of shards: which ranges are fetched, side by side, and what they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import make_plan, random_maps

from vfs_ops.caches import cache_reading
from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.caches.cache_reading import ShardStore, is_read_in_ranges, ranged_cost
from vfs_ops.caches.layout import write_shard
from vfs_ops.caches.receipts import Receipt
from vfs_ops.errors import QueryError
from vfs_ops.store.traffic import counting
from vfs_ops.store.workspace import Workspace


def stored(workspace: Workspace, codec: str) -> tuple[ShardStore, list[Receipt]]:
    """Store 100 images in 4 shards of up to 8 chunks of 4."""
    plan = make_plan(codec=codec)
    maps, receipts = random_maps(plan, 100), []
    for shard in range(4):
        rows = plan.shard_rows(shard)
        written = write_shard(workspace, plan, shard, maps[rows.start : rows.stop], {})
        receipts.append(
            Receipt(**written.fields, inputs="e" * 64, seconds=1.0, host="h", finished="2026")
        )
    return ShardStore(workspace, plan), receipts


@pytest.fixture(params=["none", "zstd"])
def shards(request: pytest.FixtureRequest) -> tuple[ShardStore, list[Receipt]]:
    return stored(Workspace.in_memory(), request.param)


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_any_rows_come_as_they_were_stored(data: st.DataObject) -> None:
    codec = data.draw(st.sampled_from(["none", "zstd"]))
    source, receipts = stored(Workspace.in_memory(), codec)
    maps = random_maps(source.plan, 100)
    receipt = data.draw(st.sampled_from(receipts))
    count = receipt.stop - receipt.start
    wanted = np.array(sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_reading, "_LOCAL_REQUEST", data.draw(st.sampled_from([1, 200])))
        arrays = source.read(receipt, wanted, None)
    assert set(wanted) <= set(arrays.rows.tolist())
    np.testing.assert_array_equal(arrays.features, maps[receipt.start + arrays.rows])
    norms = (maps[receipt.start + arrays.rows].astype(np.float64) ** 2).sum(axis=3)
    np.testing.assert_array_equal(arrays.sq_norm, norms)
    shuffled = data.draw(st.permutations(wanted.tolist()))
    np.testing.assert_array_equal(
        source.read_features(receipt, np.array(shuffled)), maps[receipt.start + np.array(shuffled)]
    )


def test_only_the_chunks_that_hold_the_rows_are_fetched(
    shards: tuple[ShardStore, list[Receipt]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, receipts = shards
    monkeypatch.setattr(cache_reading, "_LOCAL_REQUEST", 1)
    wanted = np.array([1, 2, 21])
    with counting() as traffic:
        cost = source.read(receipts[0], wanted, None).cost
    index = source.plan.codec == "zstd"
    assert (traffic.requests, cost.requests) == (3 + index, 3 + index)
    assert traffic.bytes_read == cost.bytes
    assert cost.bytes < receipts[0].feature_bytes / 2 + 4 * 32 * 12
    expected = ranged_cost(source.workspace, source.plan, receipts[0], wanted)
    assert expected[1] == 2 + index


def test_most_of_a_shard_is_read_whole(shards: tuple[ShardStore, list[Receipt]]) -> None:
    source, receipts = shards
    rows = np.arange(0, 32, 4)
    assert not is_read_in_ranges(source.workspace, source.plan, receipts[0], rows)
    with counting() as traffic:
        assert len(source.read(receipts[0], rows, None).rows) == 32
    assert traffic.requests == 2


def test_scattered_rows_cost_one_round_trip(
    cache: Cache, s3_workspace: Workspace, s3_proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stat in cache.workspace.walk():
        s3_workspace.create(stat.path, cache.workspace.read(stat.path))
    monkeypatch.setattr(cache_reading, "_REMOTE_REQUEST", 1)
    remote = open_cache(s3_workspace, cache.id)
    rows = [59, 0, 9, 33, 20, 3]
    s3_proxy.forget()
    np.testing.assert_array_equal(remote.feature_maps_of(rows), cache.feature_maps_of(rows))
    assert s3_proxy.counts() == {"GET": 5}  # rows 0 and 3 lie in neighbouring chunks
    assert s3_proxy.sent < cache.feature_bytes / 2


@pytest.mark.parametrize("rows", [[0, 60], [-1], [3, 4, 1 << 40]])
def test_rows_that_are_not_there_are_refused(cache: Cache, rows: list[int]) -> None:
    with pytest.raises(QueryError, match="0 to 59"):
        cache.feature_maps_of(rows)
