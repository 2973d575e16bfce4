import json

import pytest

from catalog.entries import Entry
from vfs_ops.errors import DamagedError, InvalidNameError, NewerFormatError


def make_entry(**changes):
    values = {
        "type": "cache",
        "name": "photos-resnet50-layer4",
        "version": 3,
        "id": "a" * 64,
        "created": "2026-01-01T00:00:00+00:00",
        "facts": {"images": 7, "unknown to this version": [1, {"x": None}]},
    }
    return Entry(**{**values, **changes})


def test_entries_round_trip_with_facts_they_do_not_know():
    assert Entry.from_document(json.loads(make_entry().encode())) == make_entry()


def test_fields_and_formats_of_other_versions_are_kept(monkeypatch):
    document = {**make_entry().document(), "licence": "CC0", "tags": [1, {"x": None}]}
    entry = Entry.from_document(document)
    assert entry.more == {"licence": "CC0", "tags": [1, {"x": None}]}
    assert entry.document() == document
    monkeypatch.setattr("vfs_ops.canonical.FORMATS", {"entry": 2})
    later = {**document, "format": 2}
    assert Entry.from_document(later).document() == later
    assert Entry.from_document(document).document() == document


def test_the_key_is_made_of_kind_name_and_version():
    assert make_entry().key == "catalog/caches/photos-resnet50-layer4/00003.json"


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "secret"},
        {"version": 0},
        {"version": True},
        {"version": 100_000},
        {"id": "../../etc/passwd"},
        {"id": 5},
        {"created": None},
        {"facts": []},
    ],
)
def test_impossible_entries_are_damaged(changes):
    document = {**make_entry().document(), **changes}
    with pytest.raises(DamagedError, match="register it again"):
        Entry.from_document(document)


@pytest.mark.parametrize("name", ["..", "a/b", "", "A", "-x", "x" * 129, "ä", "x\n", "a\x00"])
def test_names_that_could_leave_the_folder_are_refused(name):
    with pytest.raises(InvalidNameError):
        make_entry(name=name)


@pytest.mark.parametrize("document", [None, [], "x", {}, {"format": 1}, {"format": 1, "name": 3}])
def test_what_is_no_entry_is_refused(document):
    with pytest.raises((DamagedError, NewerFormatError)):
        Entry.from_document(document)


def test_newer_entries_are_refused():
    with pytest.raises(NewerFormatError, match="upgrade"):
        Entry.from_document({**make_entry().document(), "format": 2})
