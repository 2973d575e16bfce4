"""What nothing refers to is listed, removed if asked to, and nothing else."""

import datetime
import json
from pathlib import Path

import pytest

import catalog
from flows.jobs.pruning import PruneJob
from vfs_ops.errors import DamagedError
from vfs_ops.sharing import unused


@pytest.fixture
def orphaned(caches, monkeypatch):
    """Return a workspace of two caches, one of which the catalog names, and the other's id."""
    monkeypatch.setattr(unused, "MIN_AGE", datetime.timedelta(0))
    monkeypatch.setattr(unused.find_unused, "__kwdefaults__", {"min_age": datetime.timedelta(0)})
    named, orphan = caches
    catalog.register_dataset(named.workspace, "photos", named.dataset)
    catalog.register_cache(named.workspace, "kept", named, dataset_name="photos")
    return named.workspace, orphan.id


def test_a_list_removes_nothing(orphaned):
    workspace, orphan = orphaned
    before = workspace.walk()
    pruned = PruneJob(workspace=workspace.url).run()
    assert [found.key for found in pruned.unused] == [f"caches/{orphan}"]
    assert pruned.removed == ()
    assert workspace.walk() == before


def test_only_what_is_listed_is_removed(orphaned):
    workspace, orphan = orphaned
    others = [stat for stat in workspace.walk() if orphan not in stat.path]
    pruned = PruneJob(workspace=workspace.url, remove=True).run()
    assert [found.key for found in pruned.removed] == [f"caches/{orphan}"]
    assert workspace.walk() == others
    assert PruneJob(workspace=workspace.url, remove=True).run().unused == ()
    assert catalog.open_cache(workspace, "kept").feature_map(0).any()


def test_an_entry_that_cannot_be_read_stops_it(orphaned):
    workspace, orphan = orphaned
    workspace.create("catalog/caches/other/00001.json", b"{}")
    with pytest.raises(DamagedError, match="nothing is pruned"):
        PruneJob(workspace=workspace.url, remove=True).run()
    assert orphan in workspace.names("caches")


def test_the_command_lists_and_removes(vfs, orphaned):
    workspace, orphan = orphaned
    (Path(workspace.url.removeprefix("file://")) / "notes.txt").write_text("mine")
    code, out, err = vfs("-w", workspace.url, "prune")
    assert code == 0
    assert f"caches/{orphan}" in out
    assert "--remove removes it" in err
    assert "not touched: 1 file that vfs did not write" in err
    [listed] = json.loads(vfs("-w", workspace.url, "prune", "--remove", "--json")[1])
    assert (listed["key"], listed["removed"]) == (f"caches/{orphan}", True)
    assert vfs("-w", workspace.url, "prune")[0] == 0
