"""Caches that were damaged: what a build finds, withdraws, and computes again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from makers import make_extractor

from vfs_ops.builds import acceptance, repair
from vfs_ops.builds.builder import build
from vfs_ops.builds.repair import withdraw
from vfs_ops.builds.verification import verify
from vfs_ops.caches.cache import open_cache
from vfs_ops.caches.commits import commit, small_objects
from vfs_ops.caches.layout import (
    cache_key,
    features_key,
    receipt_key,
    sha256,
    sq_norm_key,
    valid_key,
)
from vfs_ops.caches.receipts import Receipt, encode_receipts
from vfs_ops.caches.shards import chunk_checksums, decode_features, encode_features
from vfs_ops.caches.values import squared_norms
from vfs_ops.errors import (
    DamagedError,
    ExtractorMismatchError,
    IncompleteError,
    NewerFormatError,
    UnsafeMetadataError,
)
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.models.loading import load_model
from vfs_ops.store.workspace import Workspace

pytestmark = pytest.mark.usefixtures("small_shards")


def flip(cache, key, place=5):
    data = bytearray(cache.workspace.read(key))
    data[place] ^= 1
    cache.workspace.replace(key, bytes(data))


def cut(cache, key):
    cache.workspace.replace(key, cache.workspace.read(key)[:-1])


def arrays_of(cache):
    stats = cache.workspace.walk(cache_key(cache.id, "data.zarr"))
    return {stat.path: cache.workspace.read(stat.path) for stat in stats}


def built_again(caches, **options):
    """Build; returns the shards that were computed, and what was told."""
    shards, notices = [], []
    again = build(
        caches[0].dataset,
        make_extractor(),
        on_shard=shards.append,
        on_notice=notices.append,
        **options,
    )
    assert [verify(cache) for cache in again] == [[], []]
    return [(one.cache, one.shard) for one in shards], notices


@pytest.mark.parametrize("key_of", [features_key, sq_norm_key, valid_key])
@pytest.mark.parametrize("harm", ["cut", "delete"])
def test_objects_that_are_missing_or_cut_are_made_again(caches, key_of, harm):
    before = arrays_of(caches[0])
    key = key_of(caches[0].id, 2)
    if harm == "cut":
        cut(caches[0], key)
    else:
        caches[0].workspace.delete(key)
    computed, notices = built_again(caches)
    assert computed == [(caches[0].id, 2)]
    assert "shard 2 is computed again" in notices[0]
    assert arrays_of(caches[0]) == before


def test_a_changed_bit_is_mended_where_all_is_read(caches):
    before = arrays_of(caches[1])
    flip(caches[1], features_key(caches[1].id, 3))
    assert [problem.shard for problem in verify(open_cache(caches[1].workspace, caches[1].id))] == [
        3
    ]
    assert built_again(caches, check="digests")[0] == [(caches[1].id, 3)]
    assert arrays_of(caches[1]) == before


def test_a_missing_receipt_is_written_again_and_nothing_computed(caches):
    key = receipt_key(caches[0].id, 1)
    before = caches[0].workspace.read(key)
    caches[0].workspace.delete(key)
    computed, notices = built_again(caches)
    assert computed == []
    assert "receipt of shard 1 was written again" in notices[0]
    assert caches[0].workspace.read(key) == before


@pytest.mark.parametrize("name", [*small_objects(), "complete.json"])
@pytest.mark.parametrize("harm", ["change", "delete"])
def test_documents_are_written_again(caches, name, harm):
    if (name, harm) == ("plan.json", "change"):
        pytest.skip("a plan cannot be made again; see below")
    workspace, key = caches[0].workspace, f"{cache_key(caches[0].id)}/{name}"
    before = workspace.read(key)
    if harm == "change":
        workspace.replace(key, before[:-2])
    else:
        workspace.delete(key)
    assert built_again(caches)[0] == []
    assert workspace.read(key) == before


def test_a_plan_that_cannot_be_used_and_newer_formats_are_named(caches):
    workspace, key = caches[0].workspace, cache_key(caches[0].id, "plan.json")
    document = json.loads(workspace.read(key))
    workspace.replace(key, json.dumps({**document, "images_per_shard": 3}).encode())
    with pytest.raises(UnsafeMetadataError, match="build it again"):
        build(caches[0].dataset, make_extractor())
    workspace.replace(key, json.dumps({**document, "format": 99}).encode())
    with pytest.raises(NewerFormatError, match="upgrade"):
        build(caches[0].dataset, make_extractor())


def test_readers_lose_a_cache_before_its_shard_is_taken_away(caches, monkeypatch):
    deleted, delete = [], Workspace.delete

    def record(self, key):
        deleted.append(key.removeprefix(f"caches/{caches[0].id}/"))
        delete(self, key)

    monkeypatch.setattr(Workspace, "delete", record)
    withdraw(caches[0].workspace, caches[0].plan, [2])
    assert deleted[:3] == ["complete.json", "receipts.parquet", "receipts/00002.json"]
    assert [key.split("/")[1] for key in deleted[3:]] == ["valid", "sq_norm", "features"]
    with pytest.raises(IncompleteError, match="3 of 4"):
        open_cache(caches[0].workspace, caches[0].id)


def unfinish(cache):
    for name in ("complete.json", "receipts.parquet"):
        cache.workspace.delete(cache_key(cache.id, name))


def test_shards_that_were_damaged_before_the_commit_are_found(caches):
    unfinish(caches[0])
    flip(caches[0], features_key(caches[0].id, 0))
    cut(caches[0], sq_norm_key(caches[0].id, 1))
    caches[0].workspace.replace(receipt_key(caches[0].id, 3), b"{")
    computed, notices = built_again(caches)
    assert sorted(shard for _, shard in computed) == [0, 1, 3]
    assert len(notices) == 3


def old_table(cache):
    """Return the table of receipts as it would be with another shard 1."""
    receipts = list(cache.receipts)
    receipts[1] = replace(receipts[1], sq_norm="0" * 64)
    return encode_receipts(receipts)


@pytest.mark.parametrize("stored", [lambda cache: b"x", old_table])
def test_a_table_of_an_attempt_that_came_to_no_commit_is_made_again(caches, stored):
    workspace, identity = caches[0].workspace, caches[0].id
    workspace.delete(cache_key(identity, "complete.json"))
    workspace.replace(cache_key(identity, "receipts.parquet"), stored(caches[0]))
    assert built_again(caches) == ([], [])
    assert open_cache(workspace, identity).receipts == caches[0].receipts


def forge(cache, shard, change):
    """Store other features, with norms and a receipt that fit them."""
    receipt, plan = cache.receipts[shard], cache.plan
    data = cache.workspace.read(features_key(cache.id, shard))
    count = receipt.stop - receipt.start
    features = change(decode_features(data, count, plan, "a shard").copy())
    data = encode_features(features, plan)
    norms = np.zeros((plan.images_per_shard, *plan.grid), "<f4")
    norms[:count] = squared_norms(features)
    forged = replace(
        receipt,
        features=sha256(data),
        sq_norm=sha256(norms.tobytes()),
        chunk_checksums=chunk_checksums(data, count, plan, "a shard"),
    )
    cache.workspace.replace(features_key(cache.id, shard), data)
    cache.workspace.replace(sq_norm_key(cache.id, shard), norms.tobytes())
    cache.workspace.replace(receipt_key(cache.id, shard), forged.encode())
    return forged


def test_shards_that_the_model_does_not_compute_are_found_by_the_sample(caches, monkeypatch):
    monkeypatch.setattr(acceptance, "SAMPLE_IMAGES", 60)
    before = arrays_of(caches[0])
    unfinish(caches[0])
    forge(caches[0], 2, lambda features: features[::-1])
    computed, notices = built_again(caches)
    assert computed == [(caches[0].id, 2)]
    assert "not the same bits" in notices[0]
    assert arrays_of(caches[0]) == before


def test_features_whose_digests_are_right_are_computed_again_after_the_commit_too(
    caches, monkeypatch
):
    for module in (acceptance, repair):
        monkeypatch.setattr(module, "SAMPLE_IMAGES", 60)
    before = arrays_of(caches[1])
    unfinish(caches[1])
    forge(caches[1], 2, lambda features: features[::-1])
    commit(caches[1].workspace, caches[1].plan)
    assert built_again(caches) == ([], [])
    computed, notices = built_again(caches, check="digests")
    assert computed == [(caches[1].id, 2)]
    assert "not the same bits" in notices[0]
    assert arrays_of(caches[1]) == before


def test_another_model_takes_away_no_cache(caches, monkeypatch):
    other = make_extractor(seed=1)
    with pytest.raises(ExtractorMismatchError):
        repair.mend_sample(
            *(caches[0].dataset, other, [cache.spec for cache in caches]),
            workspace=caches[0].workspace,
            images=None,
            on_notice=pytest.fail,
        )
    assert [verify(cache) for cache in caches] == [[], []]


@pytest.mark.parametrize("noise", [1e-3, 0.3])
def test_what_other_hardware_computed_may_differ_a_little(caches, monkeypatch, noise):
    monkeypatch.setattr(acceptance, "SAMPLE_IMAGES", 60)
    unfinish(caches[0])
    spread = np.random.default_rng(0)

    def change(features):
        varied = features * (1 + noise * spread.normal(size=features.shape))
        return varied.astype(features.dtype)

    forged = forge(caches[0], 2, change)
    elsewhere = replace(forged, host="elsewhere")
    key = receipt_key(caches[0].id, 2)
    caches[0].workspace.replace(key, elsewhere.encode())
    computed, _ = built_again(caches)
    assert computed == ([(caches[0].id, 2)] if noise == 0.3 else [])
    kept = Receipt.decode(caches[0].workspace.read(key))
    assert (kept == elsewhere) == (noise != 0.3)


def test_a_model_that_computes_something_else_each_time_is_an_error(dataset):
    class Fickle(torch.nn.Module):
        calls = 0

        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.AvgPool2d(8))

        def forward(self, x):
            Fickle.calls += 1
            return self.body(x.roll(Fickle.calls % 3, 1) if len(x) > 1 else x)

    preprocessing = Preprocessing(resize=Resize("exact", (32, 32)), crop=None)
    model = load_model(Fickle(), name="fickle", preprocessing=preprocessing)
    with pytest.raises(DamagedError, match="computed 3 times and is still wrong"):
        build(dataset, FeatureExtractor(model, ["body"], device="cpu"))
