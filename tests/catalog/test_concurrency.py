"""Registrations at once, by real processes: none is lost, and the index holds all of them."""

import json
import subprocess
import sys

import pytest

import catalog
from catalog.records import INDEX_KEY
from vfs_ops.storage import Workspace

PROCESSES = 4

SCRIPT = """
import sys
from dataclasses import replace
import catalog
from vfs_ops.datasets import open_dataset
from vfs_ops.storage import Workspace

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


@pytest.mark.parametrize(("kind", "each"), [("file", 3), ("s3", 1)])
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
