import json

import numpy as np
import pytest

from vfs_ops.caches import open_cache
from vfs_ops.layout import cache_key, features_key, probe_key, sq_norm_key, valid_key
from vfs_ops.verification import verify


def flip(cache, key, place=-1):
    data = bytearray(cache.workspace.read(key))
    data[place] ^= 1
    cache.workspace.replace(key, bytes(data))


def found(cache):
    return [
        (problem.shard, problem.what) for problem in verify(open_cache(cache.workspace, cache.id))
    ]


def test_a_whole_cache_has_no_problems_and_tells_progress(cache):
    seen = []
    assert verify(cache, progress=seen.append) == []
    assert [(progress.done, progress.total) for progress in seen] == [(n, 4) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("key_of", [features_key, sq_norm_key, valid_key])
def test_a_single_changed_bit_is_found(cache, key_of):
    flip(cache, key_of(cache.id, 2), place=5)
    [(shard, what)] = found(cache)
    assert shard == 2
    assert "digest" in what


@pytest.mark.parametrize("key_of", [features_key, sq_norm_key, valid_key])
def test_a_missing_object_is_found(cache, key_of):
    cache.workspace.delete(key_of(cache.id, 3))
    [(shard, what)] = found(cache)
    assert (shard, what.endswith("is missing")) == (3, True)


def test_a_missing_or_changed_receipt_is_found(cache):
    cache.workspace.delete(cache_key(cache.id, "receipts", "00000.json"))
    key = cache_key(cache.id, "receipts", "00001.json")
    document = json.loads(cache.workspace.read(key))
    cache.workspace.replace(key, json.dumps({**document, "host": "elsewhere"}).encode())
    cache.workspace.replace(cache_key(cache.id, "receipts", "00002.json"), b"{")
    assert [shard for shard, _ in found(cache)] == [0, 1, 2]


def test_a_probe_cut_off_is_found(cache):
    cache.workspace.replace(probe_key(cache.id), b"short")
    [(shard, what)] = found(cache)
    assert shard is None
    assert "probe" in what


def test_shards_that_disagree_with_themselves_are_found(cache, monkeypatch):
    norms = np.frombuffer(cache.workspace.read(sq_norm_key(cache.id, 0)), "<f4").copy()
    norms[3] *= 2
    cache.workspace.replace(sq_norm_key(cache.id, 0), norms.tobytes())
    monkeypatch.setattr("vfs_ops.verification.sha256", _Matching(cache))
    assert (0, "sq_norm does not fit the features") in found(cache)


class _Matching:
    """Digests that always match, to reach the checks behind them."""

    def __init__(self, cache):
        self.digests = {}
        for receipt in cache.receipts:
            for key, digest in (
                (features_key(cache.id, receipt.shard), receipt.features),
                (sq_norm_key(cache.id, receipt.shard), receipt.sq_norm),
                (valid_key(cache.id, receipt.shard), receipt.valid),
            ):
                self.digests[cache.workspace.read(key)] = digest

    def __call__(self, data):
        return self.digests[data]
