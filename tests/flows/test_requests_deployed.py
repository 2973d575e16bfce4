"""A cache is asked for where a real server is configured: its deployment builds it."""

import subprocess
import sys

import pytest
from prefect_processes import PREFECT, VFS, running, running_server

import catalog

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

SCRIPT = """
import sys
import flows

asked = flows.request_cache(
    "photos", "timm:resnet10t", "layer4", weights="random:0", workspaces=sys.argv[1]
)
print(asked.work.where)
print(asked.wait(300).count)
"""


def test_the_deployment_builds_what_is_missing(photos, dataset, tmp_path):
    workspace = dataset.workspace
    catalog.register_dataset(workspace, "photos", dataset)
    ask = [sys.executable, "-c", SCRIPT, workspace.url]
    with running_server(tmp_path) as environment:
        said = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True}
        refused = subprocess.run(ask, **said)
        assert "vfs deploy" in refused.stderr  # nobody has made the deployment
        done = subprocess.run([*VFS, "-w", workspace.url, "deploy", "--pool", "vfs"], **said)
        assert done.returncode == 0, done.stderr
        worker = [*PREFECT, "worker", "start", "--pool", "vfs"]
        with running(worker, environment, tmp_path):
            done = subprocess.run(ask, **said)
    assert done.returncode == 0, done.stderr
    where, count = done.stdout.splitlines()[-2:]
    assert (where.startswith("flow run "), count) == (True, "60")
    [entry] = catalog.list_entries(workspace, "cache")
    assert entry.built["flow_run"]
