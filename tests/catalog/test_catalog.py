import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from made_caches import made_cache
from makers import make_extractor

import catalog
from catalog import index, records
from catalog.about import About
from catalog.records import INDEX_KEY
from vfs_ops.builds.builder import build
from vfs_ops.datasets.dataset import open_dataset
from vfs_ops.errors import (
    AccessError,
    DamagedError,
    ForbiddenError,
    IncompleteError,
    NewerFormatError,
    NotFoundError,
    QueryError,
    TooLargeError,
    UnavailableError,
)
from vfs_ops.store.workspace import Workspace


def test_entries_say_what_a_listing_needs(registered, caches):
    dataset, first, second = catalog.list_entries(registered)
    assert (dataset.type, dataset.name, dataset.facts["images"]) == ("dataset", "photos", 60)
    assert (first.name, second.name) == ("photos-toy-0", "photos-toy-2")
    assert first.facts["grid"] == [8, 8]
    assert first.facts["stride"] == [4, 4]
    assert first.facts["dataset"] == {"name": "photos", "id": dataset.id, "split": "", "version": 1}
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
    with pytest.raises(QueryError, match="vfs show --kind"):
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
    index = json.loads(registered.read(INDEX_KEY))["records"].values()
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


def test_an_index_that_is_too_large_is_neither_read_nor_written(registered, caches, monkeypatch):
    served = ReadOnly(registered.url)
    before = registered.read(INDEX_KEY)
    for module in (records, index):
        monkeypatch.setattr(module, "MAX_INDEX_BYTES", len(before))
    assert len(catalog.list_entries(served)) == 3
    with pytest.raises(TooLargeError, match="begin another workspace"):
        catalog.register_dataset(registered, "more", caches[0].dataset)
    assert registered.read(INDEX_KEY) == before
    registered.replace(INDEX_KEY, before + b" ")
    with pytest.raises(DamagedError, match="the most that is read of it"):
        catalog.list_entries(served)
    assert len(catalog.list_entries(registered)) == 4


def test_who_cannot_list_cannot_register_and_is_told_why(registered, caches, monkeypatch):
    def refused(self, key=""):
        raise ForbiddenError("403")

    before = registered.walk()
    unlisted = Workspace.in_memory()
    for stat in before:
        unlisted.create(stat.path, registered.read(stat.path))
    walk = Workspace.walk
    monkeypatch.setattr(Workspace, "walk", refused)
    monkeypatch.setattr(records, "LOCAL_PROTOCOLS", ())  # as a bucket
    assert len(catalog.list_entries(unlisted)) == 3  # by the index
    for write in (
        lambda: catalog.register_dataset(unlisted, "more", caches[0].dataset),
        lambda: catalog.set_alias(unlisted, "dataset", "photos", "gold", 1),
        lambda: catalog.check_copies(unlisted, unlisted, catalog.find(unlisted, "photos-toy-0")),
    ):
        with pytest.raises(AccessError, match="s3:ListBucket"):
            write()
    monkeypatch.setattr(Workspace, "walk", walk)
    assert [stat.path for stat in unlisted.walk()] == [stat.path for stat in before]


def test_an_empty_workspace_has_an_empty_catalog(workspace):
    assert catalog.list_entries(workspace) == []
    assert catalog.list_entries(ReadOnly(workspace.url)) == []


def test_an_index_that_was_not_written_is_written_by_the_same_command(registered, caches):
    before = registered.read(INDEX_KEY)
    registered.delete(INDEX_KEY)  # as after a kill between record and index
    catalog.register_dataset(registered, "photos", caches[0].dataset)
    assert registered.read(INDEX_KEY) == before
    stale = json.loads(before)
    stale["records"].popitem()
    registered.replace(INDEX_KEY, json.dumps(stale).encode())
    assert len(catalog.list_entries(registered)) == 3  # a stale index hides nothing
    assert catalog.register_dataset(registered, "photos", caches[0].dataset).version == 1
    assert registered.read(INDEX_KEY) == before
    registered.replace(INDEX_KEY, b"cut o")
    catalog.register_dataset(registered, "photos", caches[0].dataset)
    assert registered.read(INDEX_KEY) == before


def test_an_index_of_a_newer_format_is_left_alone(registered, caches):
    newer = json.dumps({**json.loads(registered.read(INDEX_KEY)), "format": 2}).encode()
    registered.replace(INDEX_KEY, newer)
    with pytest.raises(NewerFormatError):
        catalog.register_dataset(registered, "photos", caches[0].dataset)
    assert registered.read(INDEX_KEY) == newer


def change_record(workspace, key, **changes):
    document = {**json.loads(workspace.read(key)), **changes}
    workspace.replace(key, json.dumps(document).encode())


RECORD = "catalog/caches/photos-toy-0/00001.json"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"cut o", DamagedError),
        (b"[]", DamagedError),
        (b'{"kind": "entry", "format": 1}', DamagedError),
        (b'{"kind": "entry", "format": 2, "holds": "what nobody knows"}', NewerFormatError),
        (b'{"kind": "entry", "format": 1, "name": "\\ud800"}', DamagedError),
        (b'{"kind": "entry", "format": 1, "name": 1e999}', DamagedError),
    ],
)
def test_one_record_that_cannot_be_read_closes_nothing_else(registered, caches, data, kind):
    registered.replace(RECORD, data)
    contents = catalog.read_contents(registered)
    assert [entry.name for entry in contents.entries] == ["photos", "photos-toy-2"]
    assert [type(problem) for problem in contents.problems] == [kind]
    assert RECORD in str(contents.problems[0])
    assert catalog.open_cache(registered, "photos-toy-2").id == caches[1].id
    assert catalog.open_cache(registered, caches[1].id[:8]).id == caches[1].id
    with pytest.raises(kind):
        catalog.find(registered, "photos-toy-0")
    with pytest.raises(NotFoundError, match="1 of its records cannot be read"):
        catalog.find(registered, "elsewhere")
    again = catalog.register_cache(registered, "photos-toy-0", caches[0], dataset_name="photos")
    assert again.version == 2
    assert catalog.open_cache(registered, "photos-toy-0").id == caches[0].id


def test_a_newer_version_that_cannot_be_read_is_not_passed_over(registered, caches):
    newer = {**json.loads(registered.read(RECORD)), "format": 2, "version": 2}
    registered.create(RECORD.replace("00001", "00002"), json.dumps(newer).encode())
    with pytest.raises(NewerFormatError, match="upgrade"):
        catalog.find(registered, "photos-toy-0")
    assert catalog.find(registered, "photos-toy-0@1").id == caches[0].id
    assert "photos-toy-0" not in [entry.name for entry in catalog.list_entries(registered)]


def test_by_name_only_that_name_is_read(registered, monkeypatch):
    read, seen = Workspace.read, []

    def seeing(self, key, **bounds):
        seen.append(key)
        return read(self, key, **bounds)

    monkeypatch.setattr(Workspace, "read", seeing)
    catalog.find(registered, "photos-toy-0", "cache")
    assert seen == [RECORD]


def test_storage_that_does_not_answer_is_no_bad_record(registered, caches, monkeypatch):
    read = Workspace.read

    def unanswered(self, key, *part, **bounds):
        if key == RECORD:
            raise UnavailableError("no answer; try again later")
        return read(self, key, *part, **bounds)

    registered.delete(INDEX_KEY)  # else it would answer for the record
    monkeypatch.setattr(Workspace, "read", unanswered)
    with pytest.raises(UnavailableError):
        catalog.list_entries(registered)
    other = replace(caches[0].dataset, id="b" * 64)
    with pytest.raises(UnavailableError):
        catalog.register_dataset(registered, "photos", other)
    assert registered.read_optional(INDEX_KEY) is None


def test_files_that_are_no_records_are_passed_over(registered, tmp_path):
    folder = tmp_path / "workspace" / "catalog" / "caches"
    for stray in ("photos-toy-0/Copy of 00001.json", "photos-toy-0/00001.json.bak", "notes.txt"):
        (folder / stray).write_text("stray")
    (folder / "Copy of photos-toy-0").mkdir()
    (folder / "Copy of photos-toy-0" / "00001.json").write_text("stray")
    (folder / "photos-toy-2" / "00009.json").mkdir()
    contents = catalog.read_contents(registered)
    assert contents.problems == ()
    assert len(contents.entries) == 3


def test_what_this_version_does_not_know_reaches_the_index(registered, caches):
    change_record(registered, RECORD, licence={"of": ["a later version"]})
    newer = {**json.loads(registered.read(RECORD)), "format": 2, "name": "newer"}
    registered.create("catalog/caches/newer/00001.json", json.dumps(newer).encode())
    registered.create("catalog/caches/bad/00001.json", b"cut o")
    catalog.register_dataset(registered, "photos", caches[0].dataset)
    records = json.loads(registered.read(INDEX_KEY))["records"].values()
    index = {entry["name"]: entry for entry in records}
    assert index["photos-toy-0"]["licence"] == {"of": ["a later version"]}
    assert index["newer"] == newer
    assert set(index) == {"photos", "photos-toy-0", "photos-toy-2", "newer"}
    served = catalog.read_contents(ReadOnly(registered.url))
    assert len(served.entries) == 3
    assert [type(problem) for problem in served.problems] == [NewerFormatError]
    assert catalog.open_cache(ReadOnly(registered.url), "photos-toy-0").id == caches[0].id
    with pytest.raises(NewerFormatError):
        catalog.find(ReadOnly(registered.url), "newer")


def test_an_index_of_anything_harms_only_what_is_bad(registered):
    good = json.loads(registered.read(INDEX_KEY))
    bad = {"catalog/caches/bad/00001.json": 5, "../x": {}, "catalog/caches/x/00001.json": None}
    bad["catalog/caches/elsewhere/00001.json"] = good["records"][RECORD]
    bad["catalog/aliases/caches/photos-toy-0/00001.json"] = {"kind": "alias", "format": 1}
    bad["catalog/deprecations/caches/photos-toy-0/00001.json"] = good["records"][RECORD]
    index = {**good, "records": bad | good["records"]}
    registered.replace(INDEX_KEY, json.dumps(index).encode())
    contents = catalog.read_contents(ReadOnly(registered.url))
    assert len(contents.entries) == 3
    assert len(contents.problems) == len(bad)


def test_records_that_claim_another_place_are_damaged(registered):
    registered.replace(RECORD, registered.read(RECORD).replace(b"photos-toy-0", b"photos-toy-2"))
    with pytest.raises(DamagedError, match="photos-toy-2"):
        catalog.find(registered, "photos-toy-0")


def test_an_entry_that_names_no_dataset_is_damaged(registered):
    change_record(registered, RECORD, facts={"dataset": {"id": ["../../x"]}})
    with pytest.raises(DamagedError, match=r"facts\.dataset"):
        catalog.open_cache(registered, "photos-toy-0")


def test_labels_come_from_the_dataset_that_the_entry_names(registered, caches):
    opened = catalog.open_cache(registered, "photos-toy-0")
    expected = open_dataset(registered, caches[0].dataset.id).table(["label"])
    assert opened.dataset.table(["label"]).equals(expected)


def test_a_cache_of_an_older_dataset_is_not_the_latest(workspace):
    caches = [made_cache(workspace, np.ones((images, 2, 2, 4), np.float16)) for images in (2, 3)]
    for cache in caches:
        catalog.register_dataset(workspace, "photos", cache.dataset)

    def register(which):
        return catalog.register_cache(workspace, "toy", caches[which], dataset_name="photos")

    assert register(1).facts["dataset"]["version"] == 2
    older = register(0)
    assert (older.version, older.facts["dataset"]["version"]) == (2, 1)
    assert register(0) == older
    assert catalog.find(workspace, "toy").id == caches[1].id
    assert catalog.open("toy@latest", workspace).id == caches[1].id
    assert [entry.version for entry in catalog.list_entries(workspace, "cache")] == [1]
    row = catalog.find_all(workspace, [("aliases", "contains", "latest")], kind="cache").iloc[0]
    assert (row["version"], row["id"]) == (1, caches[1].id)
    said = catalog.describe(workspace, "cache", "toy", About(owner="ann"))
    assert (said.version, said.id) == (3, caches[1].id)
    catalog.describe(workspace, "dataset", "photos", About(owner="ann"))  # no newer dataset
    assert register(1) == said
    catalog.register_dataset(workspace, "photos", caches[0].dataset)  # it is the newest again
    again = register(0)
    assert (again.version, again.facts["dataset"]["version"]) == (4, 4)
    assert catalog.find(workspace, "toy") == again
