import shutil

import pytest

import catalog
from catalog.about import About, Licences
from vfs_ops.errors import NotFoundError, PredicateError, QueryError, UnavailableError
from vfs_ops.store.workspace import Workspace


@pytest.fixture
def described(registered):
    about = About(owner="Vision Team", citation="Doe 2026", licences=Licences(features="CC0-1.0"))
    catalog.describe(registered, "cache", "photos-toy-2", about)
    catalog.set_alias(registered, "cache", "photos-toy-2", "team-default", 2)
    return registered


def names(workspaces, *arguments, **options):
    return catalog.find_all(workspaces, *arguments, **options)["name"].tolist()


def test_every_field_can_be_asked_for(described, caches):
    spec = caches[1].spec
    wanted = {
        ("name", "==", "photos-toy-2"),
        ("version", ">=", 2),
        ("aliases", "contains", "team-default"),
        ("status", "!=", "draft"),
        ("owner", "==", "Vision Team"),
        ("dataset", "==", "photos"),
        ("images", "<=", 60),
        ("unreadable", "==", 0),
        ("model", "in", ("custom:toy",)),
        ("layer", "==", "2"),
        ("grid", "contains", 4),
        ("channels", "==", 10),
        ("stride", "contains", 8.0),
        ("bytes", ">", 1),
        ("shards", "==", 4),
        ("licence_features", "==", "CC0-1.0"),
        ("citation", "!=", ""),
        ("weights_fingerprint", "==", spec.extractor.weights),
        ("origin", "==", "built"),
        ("id", "==", spec.id),
    }
    assert names(described, sorted(wanted, key=str)) == ["photos-toy-2"]
    for column, operator, value in wanted:
        assert "photos-toy-2" in names(described, [(column, operator, value)])
    assert names(described, [[("layer", "==", "0")], [("type", "==", "dataset")]]) == [
        "photos",
        "photos-toy-0",
    ]


def test_words_are_looked_for_in_all_texts(described):
    assert names(described, text="vision TEAM doe") == ["photos-toy-2"]
    assert names(described, text="custom:toy cc0") == ["photos-toy-2"]
    assert names(described, text="imagenet") == []
    assert len(names(described, text="")) == 3


def test_older_versions_are_listed_when_asked_for(described):
    assert names(described, kind="cache", all_versions=True) == [
        "photos-toy-0",
        "photos-toy-2",
        "photos-toy-2",
    ]
    assert names(described, [("aliases", "contains", "latest")], kind="cache", all_versions=True)


def test_an_empty_catalog_is_an_empty_table(workspace):
    assert catalog.find_all(workspace).empty
    assert "model" in catalog.find_all(workspace, [("model", "==", "x")]).columns


@pytest.mark.parametrize(
    "where",
    [
        "name == name and __import__('os').system('touch /tmp/x')",
        "@catalog.find_all.__globals__",
        [("name", "query", "x")],
        [("`name`", "==", "x")],
        [("__class__", "==", "x")],
    ],
)
def test_filters_are_never_evaluated(described, where):
    with pytest.raises(PredicateError):
        catalog.find_all(described, where)


@pytest.fixture
def public(registered, tmp_path):
    """Return a second workspace that holds the same, under its own URL."""
    shutil.copytree(tmp_path / "workspace", tmp_path / "public")
    return Workspace.at(str(tmp_path / "public"))


def test_several_catalogs_are_searched_as_one(registered, public, caches):
    catalog.register_cache(public, "only-here", caches[1], dataset_name="photos")
    both = [registered, public]
    found = catalog.find_all(both, [("name", "==", "photos-toy-0")])
    assert found["workspace"].tolist() == [registered.url, public.url]
    assert catalog.locate(both, "photos-toy-0").workspace == registered
    assert catalog.locate([public, registered], "photos-toy-0").workspace == public
    opened = catalog.open("only-here", both)
    assert (opened.workspace, opened.id) == (public, caches[1].id)
    assert catalog.open(caches[1].id[:9], [each.url for each in both]).workspace == registered
    with pytest.raises(NotFoundError, match=rf"{registered.url}.*; .*{public.url}"):
        catalog.open("elsewhere", both)


def test_a_name_with_two_meanings_is_refused(registered, public, caches):
    catalog.register_cache(registered, "toy", caches[0], dataset_name="photos")
    catalog.register_cache(public, "toy", caches[1], dataset_name="photos")
    with pytest.raises(QueryError, match="means different things"):
        catalog.open("toy", [registered, public])
    assert catalog.open("photos-toy-0@1", [registered, public]).id == caches[0].id


def test_the_workspace_of_the_environment_is_the_default(registered, caches, monkeypatch):
    monkeypatch.setenv("VFS_WORKSPACE", registered.url)
    assert catalog.open("photos-toy-0").id == caches[0].id
    assert len(catalog.find_all()) == 3
    with pytest.raises(QueryError):
        catalog.find_all([])


def test_a_catalog_that_does_not_answer_is_not_passed_over(registered, public, monkeypatch):
    walk = Workspace.walk

    def unanswered(self, key=""):
        if self == public:
            raise UnavailableError("no answer")
        return walk(self, key)

    monkeypatch.setattr(Workspace, "walk", unanswered)
    with pytest.raises(UnavailableError):
        catalog.find_all([registered, public])
