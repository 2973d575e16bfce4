import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makers import make_extractor

from vfs_ops.builds.verification import verify
from vfs_ops.caches.cache import open_cache
from vfs_ops.caches.commits import small_objects
from vfs_ops.caches.layout import (
    cache_key,
    features_key,
    receipt_key,
    sha256,
    sq_norm_key,
    valid_key,
)
from vfs_ops.caches.shards import chunk_checksums, decode_features, encode_features
from vfs_ops.caches.values import squared_norms
from vfs_ops.errors import ExtractorMismatchError


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


def test_shards_that_disagree_with_themselves_are_found(cache):
    norms = np.frombuffer(cache.workspace.read(sq_norm_key(cache.id, 0)), "<f4").copy()
    norms[3] *= 2
    cache.workspace.replace(sq_norm_key(cache.id, 0), norms.tobytes())
    valid = np.ones(16, np.bool_)
    valid[7] = False
    cache.workspace.replace(valid_key(cache.id, 0), valid.tobytes())
    forged = replace(
        cache.receipts[0], sq_norm=sha256(norms.tobytes()), valid=sha256(valid.tobytes())
    )
    problems = verify(replace(cache, receipts=(forged, *cache.receipts[1:])))
    assert [problem.what for problem in problems if problem.shard == 0] == [
        "its receipt is missing or was changed",
        "sq_norm does not fit the features",
        "valid does not fit the receipt",
    ]


def test_a_shard_of_other_images_is_found(cache):
    forged = replace(cache.receipts[2], inputs="0" * 64)
    problems = verify(replace(cache, receipts=(*cache.receipts[:2], forged, cache.receipts[3])))
    assert (2, "was computed from other images or settings") in [
        (problem.shard, problem.what) for problem in problems
    ]


@pytest.mark.parametrize("name", small_objects())
def test_every_changed_or_missing_document_is_found(cache, name):
    key = f"{cache_key(cache.id)}/{name}"
    data = cache.workspace.read(key)
    cache.workspace.replace(key, data + b" ")
    assert (None, f"{name} is not what was committed") in [
        (problem.shard, problem.what) for problem in verify(cache)
    ]
    cache.workspace.delete(key)
    assert (None, f"{name} is missing") in [
        (problem.shard, problem.what) for problem in verify(cache)
    ]


def test_a_manifest_with_other_labels_is_found(cache):
    key = f"datasets/{cache.dataset.id}/manifest.parquet"
    table = pq.read_table(io.BytesIO(cache.workspace.read(key)))
    column = table.schema.get_field_index("label")
    wrong = pa.array(["wrong"] * len(table), table.schema.field(column).type)
    buffer = io.BytesIO()
    changed = table.set_column(column, table.schema.field(column), wrong)
    pq.write_table(changed, buffer, row_group_size=1000)
    cache.workspace.replace(key, buffer.getvalue())
    problems = verify(open_cache(cache.workspace, cache.id))
    assert [problem.what.split(" has other ")[1] for problem in problems] == [
        "rows than its id says"
    ]


def test_a_sample_is_computed_again_and_must_be_the_same_bits(cache, photos):
    assert verify(cache, extractor=make_extractor(), sample=60, images=str(photos)) == []
    assert verify(cache, extractor=make_extractor(), sample=0, images="/nowhere") == []
    plan, receipt = cache.plan, cache.receipts[1]
    key = features_key(cache.id, 1)
    features = decode_features(cache.workspace.read(key), 16, plan, "a shard").copy()
    features[3, 2, 2] *= 1.01
    data = encode_features(features, plan)
    norms = squared_norms(features).astype("<f4").tobytes()
    forged = replace(
        receipt,
        features=sha256(data),
        sq_norm=sha256(norms),
        chunk_checksums=chunk_checksums(data, 16, plan, "a shard"),
    )
    cache.workspace.replace(key, data)
    cache.workspace.replace(sq_norm_key(cache.id, 1), norms)
    cache.workspace.replace(receipt_key(cache.id, 1), forged.encode())
    changed = replace(cache, receipts=(cache.receipts[0], forged, *cache.receipts[2:]))
    [problem] = verify(changed, extractor=make_extractor(), sample=60, images=str(photos))
    assert problem.shard == 1
    assert "not the same bits" in problem.what
    other = replace(forged, device="another")
    cache.workspace.replace(receipt_key(cache.id, 1), other.encode())
    changed = replace(cache, receipts=(cache.receipts[0], other, *cache.receipts[2:]))
    assert verify(changed, extractor=make_extractor(), sample=60, images=str(photos)) == []


def test_a_sample_by_another_model_is_refused(cache):
    for other in (make_extractor(seed=1), make_extractor(["2"])):
        with pytest.raises(ExtractorMismatchError, match="load its own model"):
            verify(cache, extractor=other)
