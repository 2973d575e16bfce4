import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from makers import make_extractor

import catalog
from catalog.entries import INDEX_KEY
from vfs_ops.builder import build
from vfs_ops.datasets import open_dataset
from vfs_ops.errors import DamagedError, IncompleteError, NotFoundError, QueryError
from vfs_ops.storage import Workspace


@pytest.fixture
def registered(caches):
    """Return a workspace with one dataset and two caches in its catalog."""
    workspace, dataset = caches[0].workspace, caches[0].dataset
    catalog.register_dataset(workspace, "photos", dataset)
    for cache, name in zip(caches, ("photos-toy-0", "photos-toy-2"), strict=True):
        catalog.register_cache(workspace, name, cache, dataset_name="photos")
    return workspace


def test_entries_say_what_a_listing_needs(registered, caches):
    dataset, first, second = catalog.list_entries(registered)
    assert (dataset.type, dataset.name, dataset.facts["images"]) == ("dataset", "photos", 60)
    assert (first.name, second.name) == ("photos-toy-0", "photos-toy-2")
    assert first.facts["grid"] == [8, 8]
    assert first.facts["stride"] == [4, 4]
    assert first.facts["dataset"] == {"name": "photos", "id": dataset.id}
    assert second.facts["channels"] == 10
    assert second.facts["bytes"] == caches[1].feature_bytes
    assert [entry.name for entry in catalog.list_entries(registered, "dataset")] == ["photos"]


def test_registering_the_same_again_writes_nothing(registered, caches):
    before = registered.walk("catalog")
    entry = catalog.register_dataset(registered, "photos", caches[0].dataset)
    assert entry.version == 1
    assert registered.walk("catalog") == before


def test_caches_open_by_name_version_and_id(registered, caches):
    names = ["photos-toy-2", "photos-toy-2@1", caches[1].id, caches[1].id[:8]]
    for name in names:
        opened = catalog.open_cache(registered, name)
        assert opened.id == caches[1].id
        np.testing.assert_array_equal(opened.feature_map(5), caches[1].feature_map(5))
    assert catalog.open_dataset(registered, "photos").id == caches[0].dataset.id


def test_unknown_names_suggest_close_ones(registered):
    with pytest.raises(NotFoundError, match=r"did you mean photos-toy-[02]"):
        catalog.open_cache(registered, "photos-tyo-2")
    for name in ("photos@7", "zzz", "", "../..", "a" * 10_000):
        with pytest.raises(NotFoundError):
            catalog.find(registered, name)


def test_a_reference_that_fits_two_is_refused(registered, caches):
    catalog.register_dataset(registered, "photos-toy-0", caches[0].dataset)
    with pytest.raises(QueryError, match="dataset photos-toy-0"):
        catalog.find(registered, "photos-toy-0")
    assert catalog.find(registered, "photos-toy-0", "cache").id == caches[0].id


def test_an_unfinished_cache_is_refused_by_its_id(dataset, small_shards):
    def interrupt(progress):
        if progress.done >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(dataset, make_extractor(["0"]), progress=interrupt)
    [identity] = dataset.workspace.names("caches")
    with pytest.raises(IncompleteError, match="of 4 shards"):
        catalog.open_cache(dataset.workspace, identity)


def test_a_new_dataset_under_an_old_name_is_a_new_version(registered, caches):
    other = replace(caches[0].dataset, id="b" * 64)
    assert catalog.register_dataset(registered, "photos", other).version == 2
    assert catalog.find(registered, "photos").id == "b" * 64
    assert catalog.find(registered, "photos@1").id == caches[0].dataset.id
    assert len(catalog.list_entries(registered, "dataset")) == 1


def test_the_index_holds_every_record_after_a_race(registered, caches):
    datasets = [replace(caches[0].dataset, id=f"{number:064x}") for number in range(12)]

    def register(number):
        return catalog.register_dataset(registered, f"set-{number % 4}", datasets[number])

    with ThreadPoolExecutor(12) as pool:
        entries = list(pool.map(register, range(12)))
    index = json.loads(registered.read(INDEX_KEY))["entries"]
    found = {(entry["name"], entry["version"], entry["id"]) for entry in index}
    assert {(entry.name, entry.version, entry.id) for entry in entries} <= found
    assert len(found) == 3 + 12


class ReadOnly(Workspace):
    """What an https server allows: reading, and no listing."""

    writable = False

    def names(self, key):
        raise AssertionError("an https server cannot list")

    walk = names


def test_a_workspace_that_cannot_list_is_read_by_its_index(registered):
    served = ReadOnly(registered.url)
    assert catalog.list_entries(served) == catalog.list_entries(registered)
    assert catalog.open_cache(served, "photos-toy-0").count == 60


def test_an_empty_workspace_has_an_empty_catalog(workspace):
    assert catalog.list_entries(workspace) == []
    assert catalog.list_entries(ReadOnly(workspace.url)) == []


def test_records_that_claim_another_place_are_damaged(registered):
    key = "catalog/caches/photos-toy-0/00001.json"
    registered.replace(key, registered.read(key).replace(b"photos-toy-0", b"photos-toy-2"))
    with pytest.raises(DamagedError, match="photos-toy-2"):
        catalog.list_entries(registered)


def test_an_entry_that_names_no_dataset_is_damaged(registered):
    key = "catalog/caches/photos-toy-0/00001.json"
    document = json.loads(registered.read(key))
    document["facts"]["dataset"] = {"id": ["../../x"]}
    registered.replace(key, json.dumps(document).encode())
    with pytest.raises(DamagedError, match="names no dataset"):
        catalog.open_cache(registered, "photos-toy-0")


def test_labels_come_from_the_dataset_that_the_entry_names(registered, caches):
    opened = catalog.open_cache(registered, "photos-toy-0")
    expected = open_dataset(registered, caches[0].dataset.id).table(["label"])
    assert opened.dataset.table(["label"]).equals(expected)
