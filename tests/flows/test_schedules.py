"""Deployments at a real server: one that fires by itself, and one that a worker runs when asked."""

import subprocess

import pytest
from prefect_processes import PREFECT, VFS, ask, running, running_server, until

import catalog

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Run a Prefect server; returns the environment of those who talk to it."""
    with running_server(tmp_path_factory.mktemp("server")) as environment:
        yield environment


def finished(environment, deployment):
    """Return the runs of a deployment that have ended."""
    runs = ask(environment, "/flow_runs/filter", deployments={"name": {"any_": [deployment]}})
    return [run for run in runs if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]


def test_a_schedule_fires_and_its_run_completes_by_itself(server, photos, workspace, tmp_path):
    command = [
        *VFS,
        *("-w", workspace.url, "serve", "ingest_dataset", "--name", "minutely"),
        *("--cron", "* * * * *", "--set", "name=photos", "--set", f"source={photos}"),
    ]
    with running(command, server, tmp_path) as serving:
        run = until(lambda: finished(server, "minutely"), [serving])[0]
    assert (run["state_type"], run["auto_scheduled"]) == ("COMPLETED", True)
    assert catalog.open_dataset(workspace, "photos").count == 60


def test_a_worker_runs_a_deployment_when_asked(server, photos, workspace, tmp_path):
    deploy = [*VFS, "-w", workspace.url, "deploy", "--pool", "vfs"]
    for _ in range(2):  # again: nothing is in the way
        done = subprocess.run(deploy, env=server, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "deployed build_caches/vfs" in done.stderr
    worker = [*PREFECT, "worker", "start", "--pool", "vfs"]
    ordered = [*PREFECT, "deployment", "run", "ingest_dataset/vfs"]
    ordered += ["--param", "name=photos", "--param", f"source={photos}"]
    with running(worker, server, tmp_path) as working:
        subprocess.run(ordered, env=server, cwd=tmp_path, check=True, capture_output=True)
        run = until(lambda: finished(server, "vfs"), [working])[0]
    assert run["state_type"] == "COMPLETED"
    assert catalog.open_dataset(workspace, "photos").count == 60
