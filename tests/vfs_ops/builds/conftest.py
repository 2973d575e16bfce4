"""Fixtures of tests of builds."""

import pytest
from makers import cut_small, make_extractor, stored_bytes

from vfs_ops.builds.builder import build
from vfs_ops.datasets.dataset import open_dataset
from vfs_ops.store.workspace import Workspace


@pytest.fixture(scope="session")
def undisturbed(_ingested, tmp_path_factory):
    """Return what an undisturbed build in one process stores of `dataset`, by layer."""
    workspace = Workspace.at(str(tmp_path_factory.mktemp("undisturbed")))
    dataset = open_dataset(Workspace.at(str(_ingested[0])), _ingested[1])
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch)
        caches = build(dataset, make_extractor(), workspace=workspace)
    return [stored_bytes(cache) for cache in caches]
