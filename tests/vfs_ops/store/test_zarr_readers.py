"""What is stored is plain Zarr: readers that know nothing of us open it, wherever it lies."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
import zarr
from made_caches import made_cache

from vfs_ops.store.workspace import Workspace

MAPS = np.random.default_rng(0).integers(-9, 9, (7, 2, 3, 4)).astype(np.float16)

SCRIPT = """
import json, sys, xarray, zarr
url, key = sys.argv[1:]
alone = xarray.open_zarr(f"{url}/{key}", chunks=None)["features"].values.tolist()
assert "vfs_ops" not in sys.modules
from vfs_ops.store.workspace import Workspace
group = zarr.open_group(Workspace.at(url).zarr_store(key), mode="r")
print(json.dumps([alone, group["features"][:].tolist()]))
"""


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_zarr_and_xarray_read_the_store_of_a_workspace(kind, tmp_path):
    workspace = Workspace.in_memory() if kind == "memory" else Workspace.at(str(tmp_path))
    cache = made_cache(workspace, MAPS, images_per_shard=4, images_per_chunk=2, codec="zstd")
    store = workspace.zarr_store(f"caches/{cache.id}/data.zarr")
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_group(store, mode="r+")["features"][:] = 0
    np.testing.assert_array_equal(zarr.open_group(store, mode="r")["features"][2:6], MAPS[2:6])
    opened = xr.open_zarr(store, chunks=None)
    assert opened["features"].dims == ("image", "y", "x", "channel")
    np.testing.assert_array_equal(opened["features"], cache.to_xarray()["features"])


def test_other_programs_read_it_on_s3_by_its_url(s3_workspace):
    cache = made_cache(s3_workspace, MAPS)
    ended = subprocess.run(  # zarr leaves connections open, which ends with a process of its own
        [sys.executable, "-c", SCRIPT, s3_workspace.url, f"caches/{cache.id}/data.zarr"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [MAPS.tolist(), MAPS.tolist()]
