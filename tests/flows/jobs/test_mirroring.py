"""A cache, its dataset and their entries in another workspace."""

import catalog
from flows.jobs.mirroring import MirrorJob
from vfs_ops.store.workspace import Workspace


def test_a_mirrored_cache_has_its_entries(built, tmp_path):
    target = Workspace.at(str(tmp_path / "other"))
    [entry] = catalog.list_entries(built, "cache")
    job = MirrorJob(workspace=built.url, target=target.url, name=entry.name)
    mirrored = job.run()
    assert (mirrored.entry.id, mirrored.entry.facts) == (entry.id, entry.facts)
    assert mirrored.entry.built == entry.built
    assert [other.name for other in catalog.list_entries(target, "dataset")] == ["photos"]
    assert catalog.open_cache(target, entry.name).feature_map(3).any()
    before = target.walk()
    assert job.run().copied_objects == 0
    assert target.walk() == before


def test_what_is_deprecated_is_deprecated_there_too(caches, tmp_path):
    source, target = caches[0].workspace, Workspace.at(str(tmp_path / "other"))
    for name, cache in zip(("old", "new"), caches, strict=True):
        catalog.register_cache(source, name, cache, dataset_name="photos")
    catalog.register_dataset(source, "photos", caches[0].dataset)
    catalog.deprecate(source, "cache", "old", reason="wrong crop", successor="new")

    def mirror(name):
        MirrorJob(workspace=source.url, target=target.url, name=name).run()
        return catalog.locate(target, "old", "cache").deprecation

    said = mirror("old")
    assert (said.reason, said.successor) == ("wrong crop (its successor new@1 is not here)", None)
    mirror("new")
    said = mirror("old")
    assert (said.reason, said.successor) == ("wrong crop", "new@1")
    before = target.walk("catalog")
    assert mirror("old") == said
    assert target.walk("catalog") == before


def test_the_command_mirrors_from_and_to(vfs, built, tmp_path):
    [entry] = catalog.list_entries(built, "cache")
    code, _, err = vfs("mirror", entry.name, "--to", tmp_path / "b", "--without-previews")
    assert code == 0, err
    code, _, err = vfs("-w", tmp_path / "c", "mirror", entry.name, "--from", tmp_path / "b")
    assert code == 0, err
    assert "copied" in err
    assert catalog.find(Workspace.at(str(tmp_path / "c")), entry.name).id == entry.id
    other = Workspace.at(str(tmp_path / "d"))
    code, _, err = vfs("mirror", "photos", "--kind", "dataset", "--to", other.url)
    assert code == 0, err
    assert "dataset photos is in" in err
    assert [each.type for each in catalog.list_entries(other)] == ["dataset"]
    assert catalog.open_dataset(other, "photos").preview(0)
    for wrong in ([], ["--from", "a", "--to", "b"]):
        assert vfs("mirror", entry.name, *wrong)[0] == 2
