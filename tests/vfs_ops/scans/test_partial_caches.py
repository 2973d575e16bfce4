from __future__ import annotations

import numpy as np
import pytest

from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.caches.layout import features_key
from vfs_ops.errors import (
    IncompleteError,
)
from vfs_ops.scans.plan import plan_scan
from vfs_ops.scans.queries import Query
from vfs_ops.scans.score_arrays import score_images
from vfs_ops.scans.search import search


@pytest.fixture
def partial(cache: Cache) -> Cache:
    """The cache as it was before shard 2 was finished."""
    for name in ("complete.json", "receipts.parquet", "receipts/00002.json"):
        cache.workspace.delete(f"caches/{cache.id}/{name}")
    with pytest.raises(IncompleteError, match=r"3 of 4 shards.*allow_partial"):
        open_cache(cache.workspace, cache.id)
    return open_cache(cache.workspace, cache.id, allow_partial=True)


def test_a_partial_cache_is_searched_only_if_that_is_allowed(partial: Cache, query: Query) -> None:
    assert partial.missing_shards == (2,)
    assert [receipt.shard for receipt in partial.receipts] == [0, 1, 3]
    assert partial.receipt(3).shard == 3
    with pytest.raises(IncompleteError, match="lacks 1 of 4 shards"):
        search(partial, query)
    hits = search(partial, query, 60, allow_partial=True)
    assert sorted(hits.image) == [row for row in range(60) if row != 7 and not 32 <= row < 48]
    found = hits.provenance
    assert (found.complete, found.missing_shards, found.shards_read) == (False, 1, 3)
    assert "INCOMPLETE" in repr(hits)
    assert hits.to_xarray().attrs["complete"] == 0
    plan = plan_scan(partial, allow_partial=True)
    assert plan.is_compared(np.array([31, 33, 48])).tolist() == [True, False, True]
    with pytest.raises(IncompleteError, match="shard 2"):
        partial.feature_map(33)
    np.testing.assert_array_equal(partial.feature_map(50), partial.feature_maps(48, 60)[2])


def test_a_filter_that_needs_no_missing_shard_gives_a_complete_answer(
    partial: Cache, query: Query
) -> None:
    uris = partial.dataset.table(["uri"])["uri"].to_pylist()[:16]
    hits = search(partial, query, 60, where=[("uri", "in", uris)])
    assert hits.provenance.complete
    assert len(hits) == 15


def test_a_shard_that_vanished_is_left_out_only_if_that_is_allowed(
    cache: Cache, query: Query
) -> None:
    whole = score_images(cache, query)
    cache.workspace.delete(features_key(cache.id, 1))
    with pytest.raises(IncompleteError, match=r"shard 1 of cache .* is missing"):
        search(cache, query)
    hits = search(cache, query, 60, allow_partial=True)
    assert sorted(hits.image) == [row for row in range(60) if row != 7 and not 16 <= row < 32]
    assert (hits.provenance.complete, hits.provenance.missing_shards) == (False, 1)
    scores = score_images(cache, query, allow_partial=True)
    assert scores["image"].values.tolist() == [row for row in range(60) if not 16 <= row < 32]
    assert (scores.attrs["complete"], scores.attrs["missing_shards"]) == (0, 1)
    assert scores.attrs["requests"] == whole.attrs["requests"] - 2
    with pytest.raises(IncompleteError, match=r"shard 1 of cache .* is missing"):
        score_images(cache, query)
