"""Fixtures of the catalog's tests."""

import pytest

import catalog


@pytest.fixture
def registered(caches):
    """Return a workspace with one dataset and two caches in its catalog."""
    workspace, dataset = caches[0].workspace, caches[0].dataset
    catalog.register_dataset(workspace, "photos", dataset)
    for cache, name in zip(caches, ("photos-toy-0", "photos-toy-2"), strict=True):
        catalog.register_cache(workspace, name, cache, dataset_name="photos")
    return workspace
