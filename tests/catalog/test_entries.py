import json
import subprocess
import sys

import pytest
from makers import make_cache_spec

from catalog.about import About, Licences
from catalog.entries import Entry
from vfs_ops.errors import DamagedError, InvalidNameError, NewerFormatError, SpecError


def make_entry(**changes):
    values = {
        "type": "dataset",
        "name": "photos",
        "version": 3,
        "id": "a" * 64,
        "created": "2026-01-01T00:00:00+00:00",
        "facts": {
            "images": 7,
            "unreadable": 0,
            "images_id": "b" * 64,
            "columns": ["uri"],
            "unknown to this version": [1, {"x": None}],
        },
        "built": {"by": "ann", "flow_run": None, "unknown": 1},
    }
    return Entry(**{**values, **changes})


def make_cache_entry(**facts):
    spec = make_cache_spec()
    values = {
        "dataset": {"name": "photos", "id": "c" * 64, "split": "val", "version": 1},
        "images": 7,
        "unreadable": 0,
        "model": spec.extractor.model,
        "weights": "random:0",
        "weights_fingerprint": spec.extractor.weights,
        "layer": spec.extractor.layer,
        "extractor_id": spec.extractor.id,
        "grid": [3, 4],
        "channels": 5,
        "stride": [8, 8.0],
        "input_size": [24, 32],
        "precision": spec.precision,
        "dtype": spec.dtype,
        "origin": spec.origin,
        "shards": 1,
        "bytes": 840,
        "checksum": "d" * 64,
        "finished": "2026-01-01T00:00:00+00:00",
        "versions": {"torch": "2"},
        "recipe": spec.document(),
    }
    return make_entry(type="cache", name="photos-toy", id=spec.id, facts={**values, **facts})


def test_entries_round_trip_with_facts_they_do_not_know():
    for entry in (make_entry(), make_cache_entry(later={"x": 1})):
        assert Entry.from_document(json.loads(entry.encode())) == entry


def test_fields_and_formats_of_other_versions_are_kept(monkeypatch):
    document = {**make_entry().document(), "licence": "CC0", "tags": [1, {"x": None}]}
    entry = Entry.from_document(document)
    assert entry.more == {"licence": "CC0", "tags": [1, {"x": None}]}
    assert entry.document() == document
    monkeypatch.setattr("vfs_ops.identity.canonical.FORMATS", {"entry": 2})
    later = {**document, "format": 2}
    assert Entry.from_document(later).document() == later
    assert Entry.from_document(document).document() == document


def test_the_key_is_made_of_kind_name_and_version():
    assert make_entry().key == "catalog/datasets/photos/00003.json"


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
        {"created": "zzzz"},
        {"created": "2026-13-01T00:00:00+00:00"},
        {"created": "2026-01-01T00:00:00+02:00"},
        {"created": "2026-01-01T00:00:00"},
        {"facts": []},
        {"facts": {}},
        {"facts": {**make_entry().facts, "images": -1}},
        {"facts": {**make_entry().facts, "images": True}},
        {"facts": {**make_entry().facts, "images": 2**60}},
        {"facts": {**make_entry().facts, "images_id": "x"}},
        {"about": {"owner": 3}},
        {"about": {"description": "x" * 20_001}},
        {"about": {"licences": {"images": []}}},
        {"built": {"by": None}},
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


@pytest.mark.parametrize(
    "facts",
    [
        {"model": "timm:resnet50"},
        {"layer": "body.2"},
        {"weights_fingerprint": "e" * 64},
        {"extractor_id": "e" * 64},
        {"precision": "bfloat16"},
        {"origin": "imported:" + "e" * 64},
        {"recipe": {}},
        {"recipe": {"extractor": "x"}},
        {"recipe": {**make_cache_spec().document(), "dtype": "float32"}},
        {"grid": [3]},
        {"grid": [3, 4.5]},
        {"stride": [float("inf"), 8]},
        {"versions": {"torch": 2}},
        {"dataset": {"name": "../x", "id": "c" * 64}},
    ],
)
def test_a_cache_whose_facts_contradict_its_recipe_is_damaged(facts):
    with pytest.raises(DamagedError, match=r"an entry of the catalog: .*; register it again"):
        Entry.from_document(make_cache_entry(**facts).document())


def test_what_people_say_round_trips_and_keeps_to_limits():
    about = About(owner="ann", status="draft", split="val", licences=Licences(images="CC0-1.0"))
    assert About.of(about.document()) == about
    assert About.of({**about.document(), "later": 1}) == about
    for given in ({"status": "odd"}, {"owner": "x" * 201}, {"citation": 5}):
        with pytest.raises(SpecError):
            About(**given)
    with pytest.raises(SpecError, match="licence of weights"):
        About(licences=Licences(weights="x" * 1001))


def test_the_schema_is_loaded_when_a_record_is_read():
    script = "import catalog, sys; print(*({'pydantic', 'catalog.schema'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "\n"
