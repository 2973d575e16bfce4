from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_caches import made_cache, made_query
from oracle import naive_search

from vfs_ops.caches import local_blocks
from vfs_ops.caches.cache import Cache
from vfs_ops.caches.cache_reading import ShardStore
from vfs_ops.caches.layout import features_key
from vfs_ops.caches.shard_sources import Scratch, ShardArrays
from vfs_ops.errors import DamagedError, IncompleteError
from vfs_ops.scans.score_arrays import score_images
from vfs_ops.scans.search import search
from vfs_ops.store.workspace import Workspace

CHUNK = 2 * 3 * 3 * 4 * 2
"""Bytes of a chunk of the cache below."""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache of 27 images in shards of 16, of eight chunks each, read in blocks of three."""
    monkeypatch.setattr(local_blocks, "BLOCK_BYTES", 3 * CHUNK)
    maps = np.random.default_rng(0).standard_normal((27, 3, 3, 4)).astype(np.float16)
    workspace = Workspace.at(str(tmp_path))
    return made_cache(workspace, maps, images_per_shard=16, images_per_chunk=2, invalid=[5])


def blocks(cache: Cache, shard: int) -> list[ShardArrays]:
    store = ShardStore(cache.workspace, cache.plan)
    return list(store.read_blocks(cache.receipts[shard], None, Scratch()))


@pytest.mark.parametrize(("shard", "sizes"), [(0, [6, 6, 4]), (1, [6, 5])])
def test_blocks_are_the_shard_in_parts(made: Cache, shard: int, sizes: list[int]) -> None:
    found = blocks(made, shard)
    assert [len(block.rows) for block in found] == sizes
    receipt = made.receipts[shard]
    whole = ShardStore(made.workspace, made.plan).read(receipt, None, None)
    for name in ("features", "sq_norm", "rows", "valid"):  # all hold until the scratch is used
        joined = np.concatenate([getattr(block, name) for block in found])
        np.testing.assert_array_equal(joined, getattr(whole, name))
    costs = [block.cost for block in found]
    assert sum(cost.bytes for cost in costs) == whole.cost.bytes
    assert sum(cost.requests for cost in costs) == 2


def test_a_search_in_blocks_finds_what_the_loops_find(made: Cache) -> None:
    maps = made.feature_maps_of(range(made.count))
    weights, under = np.ones((2, 2)), maps[3, :2, :2]
    query = made_query(made, weights, under)
    rows = [row for row in range(made.count) if row != 5]  # which is not valid
    expected = naive_search(weights, under, maps[rows], len(rows))
    found = search(made, query, made.count, threads=2)
    assert [rows[image] for _, image, *_ in expected] == found.image.tolist()
    np.testing.assert_allclose(found.score, [score for score, *_ in expected], atol=1e-12)
    best = dict(zip(found.image.tolist(), found.score.tolist(), strict=True))
    scores = score_images(made, query)
    assert scores["image"].to_numpy().tolist() == rows
    assert scores.to_numpy().tolist() == [best[row] for row in rows]


def test_damage_in_the_last_block_is_no_shorter_answer(made: Cache) -> None:
    query = made_query(made, np.ones((1, 1)), np.ones((1, 1, 4)))
    path = Path(made.workspace.path_of(features_key(made.id, 0)))
    data = bytearray(path.read_bytes())
    data[7 * CHUNK] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="a chunk fails its checksum"):
        search(made, query, allow_partial=True)


def test_a_damaged_chunk_is_told_with_its_block(made: Cache) -> None:
    path = Path(made.workspace.path_of(features_key(made.id, 0)))
    data = bytearray(path.read_bytes())
    data[4 * CHUNK] ^= 1  # of the second block
    path.write_bytes(data)
    found = ShardStore(made.workspace, made.plan).read_blocks(made.receipts[0], None, Scratch())
    assert len(next(found).rows) == 6
    with pytest.raises(DamagedError, match="a chunk fails its checksum"):
        next(found)


def test_a_file_that_is_cut_or_gone_is_told(made: Cache) -> None:
    path = Path(made.workspace.path_of(features_key(made.id, 0)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match="bytes, not"):
        blocks(made, 0)
    path.unlink()
    with pytest.raises(IncompleteError, match=r"shard 0 of cache .* is missing"):
        blocks(made, 0)


def test_a_file_that_becomes_shorter_meanwhile_is_told(made: Cache) -> None:
    path = Path(made.workspace.path_of(features_key(made.id, 0)))
    found = ShardStore(made.workspace, made.plan).read_blocks(made.receipts[0], None, Scratch())
    next(found)
    path.write_bytes(path.read_bytes()[: 4 * CHUNK])
    with pytest.raises(DamagedError, match="became shorter"):
        list(found)
