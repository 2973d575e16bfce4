import json
import pickle
from pathlib import Path

import dask
import numpy as np
import pytest

from vfs_ops.builds.verification import verify
from vfs_ops.caches.cache import open_cache
from vfs_ops.caches.layout import cache_key, features_key, sq_norm_key
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import (
    DamagedError,
    IncompleteError,
    MismatchError,
    NewerFormatError,
    NotFoundError,
    QueryError,
    UnsafeMetadataError,
)
from vfs_ops.identity import canonical
from vfs_ops.store.workspace import Workspace


@pytest.fixture
def reads(monkeypatch):
    """Record what is read: key and number of bytes."""
    recorded = []
    read = Workspace.read

    def record(self, key, *part, **bounds):
        data = read(self, key, *part, **bounds)
        recorded.append((key, len(data)))
        return data

    read_into = Workspace.read_into

    def record_into(self, key, buffer):
        data = read_into(self, key, buffer)
        recorded.append((key, len(data)))
        return data

    monkeypatch.setattr(Workspace, "read", record)
    monkeypatch.setattr(Workspace, "read_into", record_into)
    return recorded


def test_xarray_is_lazy_and_equal(cache, reads):
    opened = cache.to_xarray()
    assert reads == []
    assert opened["features"].chunks == ((16, 16, 16, 12), (8,), (8,), (6,))
    with dask.config.set(scheduler="threads"):
        np.testing.assert_array_equal(opened["features"], cache.feature_maps(0, 60))
        norms = np.concatenate([cache.read_norms(shard) for shard in range(4)])
        np.testing.assert_array_equal(opened["sq_norm"], norms)
        np.testing.assert_array_equal(opened["sq_norm"][30:35], norms[30:35])
    np.testing.assert_array_equal(opened["y"], np.arange(8) * 4 + 2)
    assert opened["features"].sel(image=17, y=2, x=30, channel=3).shape == ()
    assert opened["valid"].all()


@pytest.mark.parametrize(
    "index", [37, slice(37, 38), slice(3, 50, 7), slice(9, 9), [40, 2, 2], slice(None, None, -1)]
)
def test_any_index_of_xarray_gives_what_numpy_gives(cache, index):
    whole = cache.feature_maps(0, 60)
    np.testing.assert_array_equal(cache.to_xarray()["features"][index], whole[index])
    np.testing.assert_array_equal(cache.to_xarray()["features"][index, 2, :3], whole[index, 2, :3])


def test_one_image_of_xarray_is_read_by_ranges(cache, reads):
    map_of_37 = cache.to_xarray()["features"][37].values
    np.testing.assert_array_equal(map_of_37, cache.feature_maps(32, 48)[5])
    del reads[:]
    cache.to_xarray()["features"][37].load()
    assert sum(count for _, count in reads) < cache.receipts[2].feature_bytes
    assert {key for key, _ in reads} == {features_key(cache.id, 2)}


@pytest.mark.parametrize(("start", "stop"), [(0, 60), (3, 4), (15, 17), (59, 60), (5, 50), (7, 7)])
def test_any_rows_can_be_read(cache, start, stop):
    whole = np.concatenate([cache.read_shard(shard).features for shard in range(4)])
    np.testing.assert_array_equal(cache.feature_maps(start, stop), whole[start:stop])


@pytest.mark.parametrize("row", [-1, 60])
def test_rows_that_are_not_there_are_refused(cache, row):
    with pytest.raises(QueryError, match="0 to 59"):
        cache.feature_map(row)


def test_opening_takes_few_requests_and_a_shard_two(cache, reads):
    opened = open_cache(cache.workspace, cache.id)
    assert len(reads) <= 10
    del reads[:]
    opened.read_shard(1)
    assert len(reads) == 2


def test_caches_survive_pickling(cache):
    copied = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(copied.feature_map(3), cache.feature_map(3))


def test_unknown_caches_are_not_found(workspace):
    for identity in ("0" * 64, "nothing", "../../etc"):
        with pytest.raises(NotFoundError, match="vfs ls"):
            open_cache(workspace, identity)


def test_another_dataset_of_other_images_is_refused(cache, tmp_path, photos):
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for path in sorted(photos.glob("odd/*"))[:3]:
        (fewer / path.name).write_bytes(path.read_bytes())
    with pytest.raises(MismatchError, match="60"):
        open_cache(cache.workspace, cache.id, ingest(str(fewer), cache.workspace))


def replace_json(cache, key, change):
    document = json.loads(cache.workspace.read(key))
    change(document)
    cache.workspace.replace(key, json.dumps(document).encode())


def arrays_of(document):
    return document["consolidated_metadata"]["metadata"]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: arrays_of(d)["features"].update(codecs=[{"name": "pickle"}]),
        lambda d: arrays_of(d)["valid"].update(codecs=[{"name": "numcodecs.pickle"}]),
        lambda d: arrays_of(d)["features"].update(shape=[1 << 50, 8, 8, 6]),
        lambda d: arrays_of(d)["features"].update(data_type="object"),
        lambda d: arrays_of(d).update(more={}),
        lambda d: d.update(consolidated_metadata=None),
        lambda d: d["attributes"].update(cache="0" * 64),
    ],
)
def test_zarr_metadata_other_than_the_plans_is_refused(cache, change):
    replace_json(cache, cache_key(cache.id, "data.zarr", "zarr.json"), change)
    with pytest.raises(UnsafeMetadataError, match="codecs, sizes"):
        open_cache(cache.workspace, cache.id)


@pytest.mark.parametrize("name", ["cache.json", "plan.json", "complete.json"])
def test_newer_formats_are_refused(cache, name):
    replace_json(cache, cache_key(cache.id, name), lambda document: document.update(format=2))
    with pytest.raises(NewerFormatError, match="upgrade"):
        open_cache(cache.workspace, cache.id)


@pytest.mark.parametrize("name", ["cache.json", "plan.json", "complete.json", "receipts.parquet"])
def test_documents_cut_off_are_damaged(cache, name):
    key = cache_key(cache.id, name)
    cache.workspace.replace(key, cache.workspace.read(key)[:-20])
    with pytest.raises(DamagedError):
        open_cache(cache.workspace, cache.id)


def test_shards_cut_off_are_damaged(cache):
    for key in (features_key(cache.id, 1), sq_norm_key(cache.id, 1)):
        whole = cache.workspace.read(key)
        cache.workspace.replace(key, whole[:-7])
        with pytest.raises(DamagedError, match="shard 1 of cache"):
            cache.read_shard(1)
        cache.workspace.replace(key, whole)


@pytest.mark.parametrize("kind", sorted(canonical.FORMATS))
def test_stores_of_today_stay_readable_when_a_format_moves_on(cache, monkeypatch, kind):
    moved = {**canonical.FORMATS, kind: canonical.FORMATS[kind] + 1}
    monkeypatch.setattr(canonical, "FORMATS", moved)
    opened = open_cache(cache.workspace, cache.id)
    assert verify(opened) == []
    np.testing.assert_array_equal(opened.feature_map(3), cache.feature_map(3))


@pytest.mark.parametrize("place", [0, 100, 3000])
def test_a_changed_byte_is_found_when_it_is_read(cache, place):
    key = features_key(cache.id, 1)
    data = bytearray(cache.workspace.read(key))
    data[place] ^= 4
    cache.workspace.replace(key, bytes(data))
    with pytest.raises(DamagedError, match="checksum"):
        cache.read_shard(1)
    with pytest.raises(DamagedError, match="checksum"):
        cache.feature_map(16 + place // cache.plan.image_bytes)


@pytest.mark.parametrize("name", ["plan.json", "data.zarr/zarr.json", "data.zarr/probe/c/0/0/0"])
def test_documents_must_be_what_was_committed(cache, name):
    key = f"{cache_key(cache.id)}/{name}"
    data = cache.workspace.read(key)
    changed = data.replace(b'"weights": "given"', b'"weights": "other"') + b" "
    if "probe" in name:
        changed = data[:-1] + bytes([data[-1] ^ 1])
    cache.workspace.replace(key, changed)
    with pytest.raises(DamagedError, match="not what was committed"):
        open_cache(cache.workspace, cache.id).probe  # noqa: B018


def test_a_missing_shard_makes_a_cache_incomplete(cache):
    Path(cache.workspace.path_of(features_key(cache.id, 1))).unlink()
    with pytest.raises(IncompleteError, match=r"shard 1 of cache \w+ is missing"):
        cache.read_shard(1)
