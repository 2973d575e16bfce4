"""The store of the first format, as it was written then, stays readable. It is never rewritten."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from makers import make_extractor

import catalog
from vfs_ops.builds.verification import verify
from vfs_ops.caches.layout import cache_key
from vfs_ops.scans.queries import query_from_image, query_from_row
from vfs_ops.scans.search import search
from vfs_ops.store.workspace import Workspace

STORE = Path(__file__).parent / "data" / "format_1"
IDS = {
    "0": "ba04b89ed90f5f033f04db8c334cbac736ef8bcb7cfe90db19b1ad558241f56b",
    "2": "2fb2b3f986a04ec75255125d90414d0e3be836bf10ca3bc1c54961b0fc2ef853",
}


@pytest.fixture
def workspace():
    return Workspace.at(str(STORE / "workspace"))


@pytest.mark.parametrize("layer", IDS)
def test_caches_open_by_name_and_are_whole(workspace, layer):
    cache = catalog.open_cache(workspace, f"photos-toy-{layer}")
    assert cache.id == IDS[layer]
    assert cache.count == 21
    assert verify(cache) == []
    opened = cache.to_xarray()
    stored = xr.open_zarr(workspace.zarr_store(cache_key(cache.id, "data.zarr")), chunks=None)
    np.testing.assert_array_equal(opened["features"], stored["features"])
    np.testing.assert_array_equal(opened["valid"], stored["valid"])


@pytest.mark.parametrize("layer", IDS)
def test_searches_find_what_they_found_then(workspace, layer):
    cache = catalog.open_cache(workspace, f"photos-toy-{layer}")
    hits = search(cache, query_from_row(cache, 3, boxes=[(8, 8, 40, 40)]), 5)
    then = json.loads((STORE / "hits.json").read_text())[layer]
    now = json.loads(hits.to_frame().to_json(orient="records", double_precision=15))
    assert now == [pytest.approx(hit, abs=1e-12) for hit in then]
    assert hits.figure().axes


@pytest.mark.parametrize("layer", IDS)
def test_the_model_of_then_still_makes_queries(workspace, layer):
    cache = catalog.open_cache(workspace, f"photos-toy-{layer}")
    photo = STORE / "photos" / "even" / "0000.png"
    query = query_from_image(make_extractor(), photo, boxes=[(8, 8, 40, 40)], layer=layer)
    kept = search(cache, query, 1, exclude_query_image=False).to_frame()
    assert kept["uri"][0] == "even/0000.png"
    assert kept["score"][0] > 0.999


def test_an_unreadable_image_keeps_its_row_and_reason(workspace):
    dataset = catalog.open_dataset(workspace, "photos")
    table = dataset.table(["uri", "error", "width"]).to_pylist()
    assert [row["uri"] for row in table if row["error"]] == ["odd/0099.png"]
    assert dataset.preview(0).startswith(b"\xff\xd8")


def test_the_store_is_not_touched(tmp_path, workspace):
    """A build of today finds the caches of then, and has nothing to do."""
    from vfs_ops.builds.builder import build

    shutil.copytree(STORE / "workspace", tmp_path / "workspace")
    copied = Workspace.at(str(tmp_path / "workspace"))
    before = {stat.path: copied.read(stat.path) for stat in copied.walk()}
    dataset = catalog.open_dataset(copied, "photos")
    caches = build(dataset, make_extractor(), images=str(STORE / "photos"))
    assert [cache.id for cache in caches] == list(IDS.values())
    assert {stat.path: copied.read(stat.path) for stat in copied.walk()} == before
