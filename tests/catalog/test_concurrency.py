"""Registrations at once, by real processes: none is lost, and the index holds all of them."""

import json
import subprocess
import sys

import pytest

import catalog
from catalog.records import INDEX_KEY
from vfs_ops.errors import NameTakenError
from vfs_ops.store.workspace import Workspace

PROCESSES = 3

SCRIPT = """
import sys
from dataclasses import replace
import catalog
from vfs_ops.datasets.dataset import open_dataset
from vfs_ops.store.workspace import Workspace

url, identity, process, each = sys.argv[1:]
workspace = Workspace.at(url)
dataset = open_dataset(workspace, identity)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(each)):
    other = replace(dataset, id=f"{int(process):032x}{number:032x}")
    catalog.register_dataset(workspace, "shared", other)
    entry = catalog.register_dataset(workspace, f"own-{process}", other)
    catalog.set_alias(workspace, "dataset", "shared", f"of-{process}", entry.version)
"""


@pytest.mark.parametrize(("kind", "each"), [("file", 2), ("s3", 1)])
def test_processes_that_register_at_once_lose_nothing(dataset, kind, each, request):
    workspace = dataset.workspace
    if kind == "s3":
        workspace = request.getfixturevalue("s3_workspace")
        for stat in dataset.workspace.walk("datasets"):
            workspace.create(stat.path, dataset.workspace.read(stat.path))
    script = [sys.executable, "-c", SCRIPT, workspace.url, dataset.id]
    children = [
        subprocess.Popen(
            [*script, str(number), str(each)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=120)
        assert child.returncode == 0
    shared = catalog.list_versions(workspace, "dataset", "shared")
    assert [entry.version for entry in shared] == list(range(1, PROCESSES * each + 1))
    assert len({entry.id for entry in shared}) == PROCESSES * each
    index = json.loads(workspace.read(INDEX_KEY))["records"]
    assert set(index) == {stat.path for stat in workspace.walk("catalog") if stat.path != INDEX_KEY}
    assert len(index) == 2 * PROCESSES * each + PROCESSES * each
    contents = catalog.read_contents(Workspace.at(workspace.url))
    assert contents.problems == ()
    assert len(contents.aliases["dataset", "shared"]) == PROCESSES


@pytest.mark.parametrize("late", [1, 2])
def test_a_writer_that_was_slow_mends_the_index_that_it_wrote_over(dataset, monkeypatch, late):
    """Another registers, whole, between what this one listed and what it writes."""
    workspace, write, others = dataset.workspace, Workspace.replace, []

    def slow(self, key, data):
        if key == INDEX_KEY and len(others) < late:
            others.append(f"other-{len(others)}")
            catalog.register_dataset(workspace, others[-1], dataset)
        write(self, key, data)

    monkeypatch.setattr(Workspace, "replace", slow)
    catalog.register_dataset(workspace, "mine", dataset)
    index = json.loads(workspace.read(INDEX_KEY))["records"]
    names = {f"catalog/datasets/{name}/00001.json" for name in ["mine", *others]}
    assert set(index) == names
    assert len(others) == late


def test_a_writer_that_is_killed_leaves_what_the_next_one_mends(dataset, monkeypatch):
    workspace, write = dataset.workspace, Workspace.replace

    def killed(self, key, data):
        raise KeyboardInterrupt

    monkeypatch.setattr(Workspace, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        catalog.register_dataset(workspace, "mine", dataset)
    assert [entry.name for entry in catalog.list_entries(workspace)] == ["mine"]
    monkeypatch.setattr(Workspace, "replace", write)
    catalog.register_dataset(workspace, "next", dataset)
    assert len(json.loads(workspace.read(INDEX_KEY))["records"]) == 2


def test_a_name_keeps_its_meaning_whoever_is_faster(caches, monkeypatch):
    """Another cache takes the name between this one's look and its write; and ever after."""
    workspace, create, faster = caches[0].workspace, Workspace.create, [caches[0]]

    def slow(self, key, data):
        while faster:
            catalog.register_cache(workspace, "toy", faster.pop(), dataset_name="photos")
        return create(self, key, data)

    monkeypatch.setattr(Workspace, "create", slow)
    for _ in range(2):
        with pytest.raises(NameTakenError, match=r"version 1: 0 of custom:toy .* choose another"):
            catalog.register_cache(workspace, "toy", caches[1], dataset_name="photos")
    [entry] = catalog.list_versions(workspace, "cache", "toy")
    assert entry.id == caches[0].id
    with pytest.raises(NameTakenError):
        catalog.register_cache(workspace, "toy", caches[0], dataset_name="pictures")
