import json
import warnings
from dataclasses import replace

import pytest

import catalog
from catalog import registration
from catalog.about import About, Licences
from catalog.records import INDEX_KEY
from vfs_ops.errors import InvalidNameError, NotFoundError, SpecError


@pytest.fixture
def versions(registered, caches):
    """Return a workspace where the dataset's name has three versions."""
    for digit in "bc":
        catalog.register_dataset(registered, "photos", replace(caches[0].dataset, id=digit * 64))
    return registered


def test_aliases_move_and_latest_is_always_there(versions):
    catalog.set_alias(versions, "dataset", "photos", "team-default", 2)
    assert catalog.find(versions, "photos@team-default").version == 2
    assert catalog.find(versions, "photos@latest").version == 3
    moved = catalog.set_alias(versions, "dataset", "photos", "team-default", 1)
    assert (moved.number, moved.version) == (2, 1)
    assert catalog.find(versions, "photos@team-default").version == 1
    before = versions.walk("catalog")
    assert catalog.set_alias(versions, "dataset", "photos", "team-default", 1) == moved
    assert versions.walk("catalog") == before
    served = catalog.read_contents(versions).aliases["dataset", "photos"]
    assert {name: alias.version for name, alias in served.items()} == {"team-default": 1}


@pytest.mark.parametrize("alias", ["latest", "7", "../x", "A", ""])
def test_aliases_that_could_be_something_else_are_refused(versions, alias):
    with pytest.raises(InvalidNameError):
        catalog.set_alias(versions, "dataset", "photos", alias, 1)


def test_aliases_of_nothing_are_refused(versions):
    with pytest.raises(NotFoundError):
        catalog.set_alias(versions, "dataset", "photos", "team-default", 9)
    with pytest.raises(NotFoundError):
        catalog.set_alias(versions, "cache", "elsewhere", "team-default", 1)
    with pytest.raises(NotFoundError):
        catalog.find(versions, "photos@team-default")
    assert catalog.read_contents(versions).aliases == {}


def test_who_opens_what_is_deprecated_is_told_of_the_successor(registered, caches):
    catalog.deprecate(
        registered, "cache", "photos-toy-0", reason="wrong crop", successor="photos-toy-2"
    )
    with pytest.warns(
        catalog.DeprecatedWarning, match=r"photos-toy-0@1 .*wrong crop; use photos-toy-2@1 instead"
    ):
        assert catalog.open("photos-toy-0", registered).id == caches[0].id
    with pytest.warns(catalog.DeprecatedWarning):
        catalog.open_cache(registered, caches[0].id[:8])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        catalog.open("photos-toy-2", registered)
    found = catalog.find_all(registered, [("status", "==", "deprecated")])
    assert found[["name", "successor", "deprecation"]].to_numpy().tolist() == [
        ["photos-toy-0", "photos-toy-2@1", "wrong crop"]
    ]
    before = registered.walk("catalog")
    again = catalog.deprecate(
        registered, "cache", "photos-toy-0", reason="wrong crop", successor="photos-toy-2"
    )
    assert again.number == 1
    assert registered.walk("catalog") == before


def test_a_successor_must_be_there_and_another(registered):
    with pytest.raises(SpecError, match="succeed itself"):
        catalog.deprecate(registered, "cache", "photos-toy-0", reason="", successor="photos-toy-0")
    with pytest.raises(NotFoundError):
        catalog.deprecate(registered, "cache", "photos-toy-0", reason="", successor="elsewhere")
    with pytest.raises(SpecError, match="1000"):
        catalog.deprecate(registered, "cache", "photos-toy-0", reason="x" * 1001)


def test_what_people_say_is_a_new_version_and_stays(registered, caches):
    about = About(
        owner="vision team",
        description="A small set.",
        split="val",
        licences=Licences(images="CC-BY-4.0"),
    )
    assert catalog.describe(registered, "dataset", "photos", about).version == 2
    assert catalog.register_dataset(registered, "photos", caches[0].dataset).version == 2
    assert About.of(catalog.find(registered, "photos", "dataset").about) == about
    entry = catalog.register_cache(registered, "new", caches[0], dataset_name="photos")
    assert entry.facts["dataset"]["split"] == "val"
    assert entry.about["licences"]["images"] == "CC-BY-4.0"
    later = catalog.find(registered, "photos-toy-0")
    assert later.about["licences"]["images"] == ""


def test_the_run_of_a_flow_is_kept_and_makes_no_new_version(registered, caches):
    name = "nightly"
    for run in ("first", "second"):
        entry = catalog.register_cache(
            registered, name, caches[0], dataset_name="photos", built_by="ann", flow_run=run
        )
    assert entry.version == 1
    assert entry.built == {"by": "ann", "flow_run": "first"}


def test_what_a_later_version_says_stays_when_this_one_describes(registered):
    entry = catalog.find(registered, "photos-toy-0")
    document = entry.document()
    later = {"contact": "ann", "licences": {**entry.about["licences"], "masks": "CC0-1.0"}}
    document = {**document, "version": 2, "about": {**entry.about, **later}}
    registered.create(entry.key.replace("00001", "00002"), json.dumps(document).encode())
    about = About(owner="ben", licences=Licences(images="CC-BY-4.0"))
    said = catalog.describe(registered, "cache", "photos-toy-0", about).about
    assert (said["contact"], said["owner"]) == ("ann", "ben")
    assert (said["licences"]["masks"], said["licences"]["images"]) == ("CC0-1.0", "CC-BY-4.0")


def test_who_describes_does_not_bring_back_what_was_newest(registered, caches, monkeypatch):
    newer = replace(caches[0].dataset, id="b" * 64)
    find = registration.find
    others = [newer]

    def find_slowly(*reference):
        found = find(*reference)
        if others:  # registered after this look, and before what follows from it is written
            catalog.register_dataset(registered, "photos", others.pop())
        return found

    monkeypatch.setattr(registration, "find", find_slowly)
    entry = catalog.describe(registered, "dataset", "photos", About(owner="ann"))
    assert (entry.version, entry.id, entry.about["owner"]) == (3, newer.id, "ann")


def test_a_cache_of_an_older_dataset_has_the_licence_of_its_images(registered, caches):
    about = About(split="val", licences=Licences(images="CC-BY-4.0"))
    catalog.describe(registered, "dataset", "photos", about)
    catalog.register_dataset(registered, "photos", replace(caches[0].dataset, id="b" * 64))
    entry = catalog.register_cache(registered, "new", caches[0], dataset_name="photos")
    assert entry.about["licences"]["images"] == "CC-BY-4.0"
    assert entry.facts["dataset"]["split"] == "val"


@pytest.mark.parametrize("alias", ["1", "latest"])
def test_no_record_of_an_alias_makes_a_version_another(versions, alias):
    sound = catalog.set_alias(versions, "dataset", "photos", "team-default", 2)
    bad = {**sound.document(), "number": 2, "alias": alias}
    versions.create(sound.key.replace("00001", "00002"), json.dumps(bad).encode())
    assert catalog.find(versions, "photos@1").version == 1
    assert catalog.find(versions, "photos@latest").version == 3
    assert len(catalog.read_contents(versions).problems) == 1


def test_where_no_number_is_left_it_says_so(versions, caches):
    first = catalog.set_alias(versions, "dataset", "photos", "team-default", 2)
    versions.create(
        first.key.replace("00001", "99999"), replace(first, number=99999, version=1).encode()
    )
    assert catalog.find(versions, "photos@team-default").version == 1
    with pytest.raises(SpecError, match="no more can be numbered"):
        catalog.set_alias(versions, "dataset", "photos", "team-default", 3)
    last = replace(catalog.find(versions, "photos@3"), version=99999)
    versions.create(last.key, last.encode())
    dataset = replace(caches[0].dataset, id=last.id)
    assert catalog.register_dataset(versions, "photos", dataset).version == 99999
    with pytest.raises(SpecError, match="register it under another name"):
        catalog.register_dataset(versions, "photos", dataset, about=About(owner="somebody else"))


@pytest.mark.parametrize("change", [{"successor": 5}, {"version": 0}, {"reason": "x" * 1001}])
def test_one_mark_that_cannot_be_read_harms_no_other(registered, change):
    first = catalog.deprecate(registered, "cache", "photos-toy-0", reason="old")
    bad = {**first.document(), "number": 2, **change}
    registered.create(first.key.replace("00001", "00002"), json.dumps(bad).encode())
    contents = catalog.read_contents(registered)
    assert len(contents.problems) == 1
    assert list(contents.deprecations.values()) == [first]
    catalog.rebuild_index(registered)
    assert first.key in json.loads(registered.read(INDEX_KEY))["records"]
