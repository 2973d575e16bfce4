"""Fixtures that several test modules share."""

import shutil

import pytest
from makers import cut_small, make_extractor, write_photos

from vfs_ops import builder
from vfs_ops.caches import open_cache
from vfs_ops.datasets import open_dataset
from vfs_ops.ingestion import ingest
from vfs_ops.storage import Workspace


@pytest.fixture
def small_shards(monkeypatch):
    """Cut caches into shards of 16 images, chunks of 2 and batches of 8: few images make many."""
    cut_small(monkeypatch)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Return a folder of 60 pictures with two labels; not to be changed."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 60)
    return folder


@pytest.fixture
def workspace(tmp_path):
    """Return an empty local workspace."""
    return Workspace.at(str(tmp_path / "workspace"))


@pytest.fixture(scope="session")
def _ingested(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ingested") / "workspace"
    return folder, ingest(str(photos), Workspace.at(str(folder))).id


@pytest.fixture(scope="session")
def _built(_ingested, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "workspace"
    shutil.copytree(_ingested[0], folder)
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch)
        dataset = open_dataset(Workspace.at(str(folder)), _ingested[1])
        return folder, [cache.id for cache in builder.build(dataset, make_extractor())]


@pytest.fixture
def dataset(_ingested, workspace, tmp_path):
    """Return the photos as a dataset, in the test's own workspace."""
    shutil.copytree(_ingested[0], tmp_path / "workspace")
    return open_dataset(workspace, _ingested[1])


@pytest.fixture
def caches(_built, workspace, tmp_path):
    """Return the caches of the photos under both layers of the tiny CNN, 4 shards each."""
    shutil.copytree(_built[0], tmp_path / "workspace")
    return [open_cache(workspace, identity) for identity in _built[1]]


@pytest.fixture
def cache(caches):
    """Return the cache of the tiny CNN's first layer: 8×8 cells of 6 numbers."""
    return caches[0]


@pytest.fixture
def extractor():
    """Return a tiny CNN with two layers."""
    return make_extractor()
