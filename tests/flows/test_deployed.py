"""Deployments at a real server: one that fires by itself, and those that a worker runs."""

import os
import subprocess
import sys

import pytest
from prefect_processes import PREFECT, ROOT, VFS, ask, running, running_server, until

import catalog
from flows.privacy import VARIABLES

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

REQUEST = """
import sys
import flows
from flows.jobs.ingestion import IngestJob
from flows.tracked.submitting import submit
from vfs_ops.errors import NotFoundError

try:
    submit(IngestJob(workspace=sys.argv[1], name="x", source="/x"), "nobodys")
except NotFoundError as error:
    print(error)
asked = flows.request_cache(
    "photos", "timm:resnet10t", "layer4", weights="random:0", workspaces=sys.argv[1]
)
print(asked.work.where)
print(asked.wait(300).count)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, guard, phoned):
    """Run a Prefect server; returns the environment of those who talk to it, all of them guarded.

    Nothing in it asks for privacy but for what our own programs ask for.
    """
    with running_server(tmp_path_factory.mktemp("server")) as environment:
        environment["PYTHONPATH"] = os.pathsep.join([str(guard), environment["PYTHONPATH"]])
        environment["VFS_TESTS_PHONED"] = str(phoned)
        for name in (*VARIABLES, "CI"):
            environment.pop(name, None)
        yield environment


def finished(environment, flow, deployment):
    """Return the runs of a deployment that have ended."""
    asked = {"deployments": {"name": {"any_": [deployment]}}, "flows": {"name": {"any_": [flow]}}}
    runs = ask(environment, "/flow_runs/filter", **asked)
    return [run for run in runs if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]


def test_a_schedule_fires_and_its_run_completes_by_itself(
    server, photos, workspace, tmp_path, phoned
):
    command = [
        *VFS,
        *("-w", workspace.url, "serve", "ingest_dataset", "--name", "minutely"),
        *("--cron", "* * * * *", "--set", "name=photos", "--set", f"source={photos}"),
    ]
    with running(command, server, tmp_path) as serving:
        run = until(lambda: finished(server, "ingest_dataset", "minutely"), [serving])[0]
    assert (run["state_type"], run["auto_scheduled"]) == ("COMPLETED", True)
    assert catalog.open_dataset(workspace, "photos").count == 60
    assert phoned.read_text() == ""


def test_a_worker_runs_a_deployment_when_asked(server, photos, workspace, tmp_path, phoned):
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
        run = until(lambda: finished(server, "ingest_dataset", "vfs"), [working])[0]
    assert run["state_type"] == "COMPLETED"
    assert catalog.open_dataset(workspace, "photos").count == 60
    assert phoned.read_text() == ""


def test_what_prefect_yaml_deploys_builds_a_cache_that_is_asked_for(
    server, dataset, tmp_path, phoned
):
    workspace = dataset.workspace
    catalog.register_dataset(workspace, "photos", dataset)
    ours = (ROOT / "prefect.yaml").read_text()
    mine = ours.replace("s3://team-bucket/visual-feature-search", workspace.url)
    (tmp_path / "prefect.yaml").write_text(mine)
    for command in (
        ["work-pool", "create", "vfs", "--type", "process", "--overwrite"],
        ["--no-prompt", "deploy", "--all"],
    ):
        done = subprocess.run(
            [*PREFECT, *command], env=server, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    nightly = {"name": {"any_": ["nightly"]}}
    [made] = ask(server, "/deployments/filter", deployments=nightly)
    assert made["entrypoint"] == "flows.tracked.definitions.build_caches"
    [schedule] = made["schedules"]
    assert (schedule["schedule"]["cron"], schedule["active"]) == ("0 3 * * *", False)
    [made] = ask(
        server,
        "/deployments/filter",
        deployments={"name": {"any_": ["vfs"]}},
        flows={"name": {"any_": ["build_caches"]}},
    )
    assert made["parameters"] == {"workspace": workspace.url}
    assert made["job_variables"] == {"env": VARIABLES}
    worker = [*PREFECT, "worker", "start", "--pool", "vfs"]
    with running(worker, server, tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", REQUEST, workspace.url],
            env=server,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    refused, where, count = done.stdout.splitlines()[-3:]
    assert "`vfs deploy" in refused
    assert (where.startswith("flow run "), count) == (True, "60")
    [entry] = catalog.list_entries(workspace, "cache")
    assert entry.built["flow_run"]
    assert phoned.read_text() == ""
