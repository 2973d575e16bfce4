"""Deployments at a real server: one that fires by itself, and those that a worker runs."""

import os
import subprocess
import sys

import pytest
from prefect_processes import PREFECT, ROOT, VFS, ask, running, running_server
from waiting import until

import catalog
from flows.privacy import VARIABLES

pytestmark = pytest.mark.long

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
asked, again = (
    flows.request_cache(
        "photos", "timm:resnet10t", "layer4", weights="random:0", workspaces=sys.argv[1]
    )
    for _ in range(2)
)
print(asked.work.where)
print(asked.wait(300).count, again.work.where == asked.work.where)
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


@pytest.fixture(scope="module")
def worker(server, tmp_path_factory):
    """Run a worker of the work pool `vfs`, which it makes."""
    command = [*PREFECT, "worker", "start", "--pool", "vfs", "--type", "process"]
    with running(command, server, tmp_path_factory.mktemp("worker")) as process:
        pool = {"work_pools": {"name": {"any_": ["vfs"]}}}
        until(lambda: ask(server, "/work_pools/filter", **pool), [process])
        yield process


@pytest.fixture
def run(server, tmp_path):
    """Run a program to its end; returns what it did."""

    def run_to_its_end(*command):
        done = subprocess.run(command, env=server, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run_to_its_end


def finished(environment, flow, deployment, workspace):
    """Return the runs of a deployment with a workspace that have ended."""
    asked = {"deployments": {"name": {"any_": [deployment]}}, "flows": {"name": {"any_": [flow]}}}
    return [
        run
        for run in ask(environment, "/flow_runs/filter", **asked)
        if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")
        and run["parameters"]["workspace"] == workspace.url
    ]


def test_a_schedule_fires_and_its_run_completes_by_itself(
    server, photos, workspace, tmp_path, phoned
):
    command = [
        *VFS,
        *("-w", workspace.url, "serve", "ingest_dataset", "--name", "minutely"),
        *("--cron", "* * * * *", "--set", "name=photos", "--set", f"source={photos}"),
    ]
    with running(command, server, tmp_path) as serving:
        runs = until(lambda: finished(server, "ingest_dataset", "minutely", workspace), [serving])
    assert (runs[0]["state_type"], runs[0]["auto_scheduled"]) == ("COMPLETED", True)
    assert catalog.open_dataset(workspace, "photos").count == 60
    assert phoned.read_text() == ""


def test_a_cache_that_is_asked_for_is_built_by_its_deployment(
    server, worker, run, dataset, phoned, scheduler
):
    workspace = dataset.workspace
    catalog.register_dataset(workspace, "photos", dataset)
    for _ in range(2):  # again: nothing is in the way
        done = run(*VFS, "-w", workspace.url, "deploy", "--pool", "vfs")
    assert "deployed build_caches/vfs" in done.stderr
    elsewhere = ["--set", f"cluster={scheduler.address}"]
    run(*VFS, "-w", workspace.url, "deploy", "build_caches", "--pool", "vfs", *elsewhere)
    refused, where, count = run(sys.executable, "-c", REQUEST, workspace.url).stdout.split("\n")[:3]
    assert "`vfs deploy" in refused
    assert (where.startswith("flow run "), count) == (True, "60 True")
    [ended] = finished(server, "build_caches", "vfs", workspace)
    assert ended["parameters"]["cluster"] == scheduler.address
    [entry] = catalog.list_entries(workspace, "cache")
    assert entry.built["flow_run"] == ended["id"]
    assert phoned.read_text() == ""


def test_a_worker_runs_what_prefect_yaml_deploys(
    server, worker, run, photos, workspace, tmp_path, phoned
):
    ours = (ROOT / "prefect.yaml").read_text()
    mine = ours.replace("s3://team-bucket/visual-feature-search", workspace.url)
    (tmp_path / "prefect.yaml").write_text(mine)
    run(*PREFECT, "--no-prompt", "deploy", "--all")
    made = {
        one["name"]: one
        for one in ask(server, "/deployments/filter", flows={"name": {"any_": ["build_caches"]}})
    }
    assert set(made) == {"vfs", "nightly"}
    assert made["nightly"]["entrypoint"] == "flows.tracked.definitions.build_caches"
    [schedule] = made["nightly"]["schedules"]
    assert (schedule["schedule"]["cron"], schedule["active"]) == ("0 3 * * *", False)
    assert made["vfs"]["parameters"] == {"workspace": workspace.url}
    assert made["vfs"]["job_variables"] == {"env": VARIABLES}
    run(
        *(*PREFECT, "deployment", "run", "ingest_dataset/vfs"),
        *("--param", "name=photos", "--param", f"source={photos}"),
    )
    runs = until(lambda: finished(server, "ingest_dataset", "vfs", workspace), [worker])
    assert runs[0]["state_type"] == "COMPLETED"
    assert catalog.open_dataset(workspace, "photos").count == 60
    assert phoned.read_text() == ""
