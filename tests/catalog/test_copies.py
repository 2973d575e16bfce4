"""What a catalog says of a cache, said in another workspace too."""

import json

import numpy as np
import pytest
from made_caches import made_cache

import catalog
from catalog import About, marking, registration
from catalog.records import INDEX_KEY
from vfs_ops.errors import MismatchError, NameTakenError
from vfs_ops.sharing.mirroring import mirror_cache
from vfs_ops.store.workspace import Workspace

TIMES = [f"2026-01-01T00:00:{second:02d}+00:00" for second in range(60)]


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Let every record be a second later than the one before."""
    times = iter(TIMES)
    for module in (registration, marking):
        monkeypatch.setattr(module, "now", lambda: next(times))


@pytest.fixture
def source():
    """Return a workspace where the dataset has grown, and the cache `toy` with it."""
    workspace = Workspace.in_memory()
    for images in (2, 3):
        register(workspace, images)
    catalog.describe(workspace, "cache", "toy", About(owner="ann"))
    return workspace


def register(workspace, images, name="toy"):
    cache = made_cache(workspace, np.ones((images, 2, 2, 4), np.float16))
    catalog.register_dataset(workspace, "photos", cache.dataset)
    return catalog.register_cache(workspace, name, cache, dataset_name="photos")


def copy(source, target, reference):
    entry = catalog.find(source, reference, "cache")
    catalog.check_copies(source, target, entry)
    mirror_cache(source, target, entry.id)
    return catalog.copy_entries(source, target, entry)


def test_versions_keep_their_numbers_in_whatever_order_they_come(source, any_workspace):
    copied = copy(source, any_workspace, "toy@3")
    assert copied.entry == catalog.find(source, "toy@3")
    assert [each.version for each in catalog.list_versions(any_workspace, "cache", "toy")] == [2, 3]
    copy(source, any_workspace, "toy@1")
    assert catalog.read_contents(any_workspace) == catalog.read_contents(source)
    assert catalog.find(any_workspace, "toy").version == 3
    assert catalog.find(any_workspace, "photos").version == 2
    before = any_workspace.walk()
    assert copy(source, any_workspace, "toy@1").notices == ()
    assert any_workspace.walk() == before


def test_aliases_and_deprecations_come_along_and_follow(source, any_workspace):
    catalog.set_alias(source, "cache", "toy", "team-default", 1)
    catalog.set_alias(source, "dataset", "photos", "gold", 1)
    catalog.deprecate(source, "cache", "toy@1", reason="old", successor="toy@2")
    copy(source, any_workspace, "toy@1")
    old = catalog.locate(any_workspace, "toy@team-default")
    assert old.entry.version == 1
    assert (old.deprecation.reason, old.deprecation.successor) == (
        "old (its successor toy@2 is not here)",
        None,
    )
    assert catalog.find(any_workspace, "photos@gold").version == 1
    catalog.set_alias(source, "cache", "toy", "team-default", 2)
    [notice] = copy(source, any_workspace, "toy@1").notices
    assert "toy@team-default is toy@2, which" in notice
    assert copy(source, any_workspace, "toy@2").notices == ()
    assert catalog.find(any_workspace, "toy@team-default").version == 2
    assert catalog.locate(any_workspace, "toy@1").deprecation.successor == "toy@2"
    before = any_workspace.walk()
    assert copy(source, any_workspace, "toy@team-default").notices == ()
    assert any_workspace.walk() == before


def test_what_the_target_says_later_stays(source):
    target = Workspace.in_memory()
    catalog.set_alias(source, "cache", "toy", "team-default", 3)
    copy(source, target, "toy")
    catalog.set_alias(target, "cache", "toy", "team-default", 2)
    [notice] = copy(source, target, "toy").notices
    assert "which stays: toy@team-default is toy@2" in notice
    catalog.set_alias(source, "cache", "toy", "team-default", 2)
    catalog.set_alias(source, "cache", "toy", "team-default", 3)
    assert copy(source, target, "toy").notices == ()
    assert catalog.find(target, "toy@team-default").version == 3


def test_a_source_whose_clock_is_of_another_age_is_never_the_newest(source, monkeypatch):
    target = Workspace.in_memory()
    with monkeypatch.context() as patch:
        patch.setattr(marking, "now", lambda: "9999-12-31T23:59:59+00:00")
        catalog.set_alias(source, "cache", "toy", "team-default", 3)
        catalog.set_alias(source, "cache", "toy", "paper", 3)
    catalog.set_alias(source, "dataset", "photos", "gold", 1)
    copy(source, target, "toy")
    assert catalog.find(target, "toy@paper").version == 3  # which nobody else has said
    catalog.set_alias(target, "cache", "toy", "team-default", 2)
    for _ in range(2):
        [notice] = copy(source, target, "toy").notices
        assert "said 9999-12-31" in notice
        assert catalog.find(target, "toy@team-default").version == 2
    catalog.set_alias(source, "cache", "toy", "paper", 2)  # its clock goes right again
    copy(source, target, "toy")
    assert catalog.find(target, "toy@paper").version == 2


def test_another_cache_under_that_name_and_version_is_refused_before_all_else(source):
    target = Workspace.in_memory()
    register(target, 4)
    before = target.walk()
    with pytest.raises(MismatchError, match=r"dataset photos@1 is .* mirror to another workspace"):
        copy(source, target, "toy@1")
    assert target.walk() == before
    other = Workspace.in_memory()
    cache = made_cache(other, np.ones((4, 2, 2, 4), np.float16))
    catalog.register_cache(other, "toy", cache, dataset_name="mine")
    with pytest.raises(MismatchError, match=r"cache toy@1 is "):
        copy(source, other, "toy@1")
    with pytest.raises(MismatchError, match=r"'toy' stands for another .* keep their meaning"):
        copy(source, other, "toy@2")


def test_the_same_cache_that_the_target_registered_itself_stays_as_it_is(source):
    target = Workspace.in_memory()
    own = register(target, 2)
    catalog.describe(source, "dataset", "photos", About(owner="ann"))
    assert copy(source, target, "toy@1") == catalog.Copies(own, ())
    catalog.deprecate(target, "cache", "toy@1", reason="small")
    twin = Workspace.in_memory()
    catalog.register_cache(
        twin,
        "toy",
        made_cache(twin, np.ones((2, 2, 2, 4), np.float16)),
        dataset_name="photos",
        about=About(owner="ben"),
    )
    [notice] = copy(twin, target, "toy@1").notices
    assert notice.startswith("toy@1 is described otherwise in ")
    assert catalog.find(target, "toy@1") == own


def test_what_somebody_else_registers_meanwhile_is_not_written_over(source, monkeypatch):
    target = Workspace.in_memory()
    entry = catalog.find(source, "toy@1", "cache")
    mirror_cache(source, target, entry.id)
    create, late = Workspace.create, [True]

    def slowly(workspace, key, data):
        if key == entry.key and late:
            late.clear()
            register(workspace, 4)
        return create(workspace, key, data)

    monkeypatch.setattr(Workspace, "create", slowly)
    with pytest.raises(MismatchError, match=r"cache toy@1 is "):
        catalog.copy_entries(source, target, entry)


@pytest.mark.parametrize("first", ["the mirror", "the registration"])
def test_a_name_that_a_mirror_and_a_registration_give_at_once_has_one_meaning(
    source, monkeypatch, first
):
    """Each writes a number of its own, since neither sees what the other writes."""
    target = Workspace.in_memory()
    entry = catalog.find(source, "toy@2", "cache")
    mirror_cache(source, target, entry.id)
    other = made_cache(target, np.ones((2, 2, 2, 4), np.float32), dtype="float32")
    create, waiting = Workspace.create, [True]

    def mirror():
        return catalog.copy_entries(source, target, entry)

    def register_other():
        return catalog.register_cache(target, "toy", other, dataset_name="photos")

    def slowly(workspace, key, data):
        if waiting and key.startswith("catalog/caches/toy/"):
            waiting.clear()
            (register_other if first == "the mirror" else mirror)()
        return create(workspace, key, data)

    monkeypatch.setattr(Workspace, "create", slowly)
    if first == "the mirror":
        with pytest.raises(NameTakenError, match=r"toy/00002.json is set aside"):
            mirror()
    else:
        register_other()
    assert [each.id for each in catalog.list_versions(target, "cache", "toy")] == [other.id]
    assert catalog.find(target, "toy", "cache").id == other.id
    index = json.loads(target.read(INDEX_KEY))["records"]
    assert [key for key in index if "/toy/" in key] == ["catalog/caches/toy/00001.json"]
    with pytest.raises(NameTakenError, match="a name keeps its meaning"):
        catalog.find(target, "toy@2", "cache")
    with pytest.raises(NameTakenError):
        mirror()
    about = About(owner="ann")
    again = catalog.register_cache(target, "toy", other, dataset_name="photos", about=about)
    assert (again.version, again.about["owner"]) == (4, "ann")
    assert register_other() == again
