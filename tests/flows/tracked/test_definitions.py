"""Flows under a real Prefect server: what they do, what they leave behind, when they try again."""

import json
from types import SimpleNamespace

import pytest
from httpx import ConnectError, HTTPStatusError
from proxy import running_proxy

from flows.jobs.ingestion import IngestJob
from flows.running import run_tracked
from flows.watching import Watcher
from vfs_ops.errors import (
    ClusterError,
    ClusterLostError,
    NotFoundError,
    StorageFullError,
    UnavailableError,
)
from vfs_ops.store.workspace import Workspace

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def table(web, photos, workspace):
    """Return the job that ingests three photos by a table of URLs, and a proxy before both."""
    with running_proxy(web) as proxy:
        names = [path.relative_to(photos) for path in sorted(photos.rglob("*.png"))[:3]]
        (photos / "few.csv").write_text("\n".join(["url", *(f"{proxy.url}/{n}" for n in names)]))
        try:
            yield (
                IngestJob(workspace=workspace.url, name="few", source=f"{proxy.url}/few.csv"),
                proxy,
            )
        finally:
            (photos / "few.csv").unlink()


def test_a_tracked_job_does_what_the_job_does(runs, photos, workspace, tmp_path):
    seen = []

    class Seeing(Watcher):
        def progress(self, progress):
            seen.append(progress)

    job = IngestJob(workspace=workspace.url, name="photos", source=str(photos))
    entry = run_tracked(job, Seeing())
    other = Workspace.at(str(tmp_path / "other"))
    plain = IngestJob(workspace=other.url, name="photos", source=str(photos)).run()
    assert (entry.id, entry.facts) == (plain.id, plain.facts)
    assert seen[-1].done == 60
    run = runs.last()
    assert run["name"] == "ingest photos"
    assert run["state_name"] == "Completed"
    assert run["parameters"]["source"] == str(photos)
    runs.check_stages(run, {"ingest": 1, "register": 1})
    [bar] = runs.artifacts(run)
    assert (bar["type"], float(bar["data"])) == ("progress", 100.0)
    assert "60 of 60 images" in bar["description"]
    before = workspace.walk()
    assert run_tracked(job).version == 1
    assert workspace.walk() == before


def test_a_bar_that_is_deleted_ends_no_work(runs, photos, workspace, monkeypatch):
    monkeypatch.setattr("flows.tracked.watcher.SECONDS_BETWEEN_UPDATES", 0.0)
    deleted, notes = [], []

    class Deleting(Watcher):
        def progress(self, progress):
            for bar in runs.artifacts(runs.last()) if len(deleted) < 2 else ():
                runs.client.request("DELETE", f"/artifacts/{bar['id']}")
                deleted.append(bar["id"])

        def note(self, text):
            notes.append(text)

    job = IngestJob(workspace=workspace.url, name="photos", source=str(photos))
    assert run_tracked(job, Deleting()).facts["images"] == 60
    assert runs.last()["state_name"] == "Completed"
    assert len(deleted) == 1  # it does not come back
    assert notes == []


def test_what_the_work_could_not_reach_is_not_taken_for_our_server(runs, workspace, monkeypatch):
    def unreachable(*_):
        raise ConnectError("the library's weights")

    monkeypatch.setattr(IngestJob, "_ingest", unreachable)
    with pytest.raises(ConnectError, match="weights"):
        run_tracked(IngestJob(workspace=workspace.url, name="photos", source="/"))


@pytest.mark.parametrize("done", [True, False])
def test_a_server_behind_a_gateway_may_be_lost(done, workspace, monkeypatch):
    from flows.tracked import definitions

    def flow(**_):
        told = definitions._told.get()
        told.done, told.result = done, "the result"
        raise HTTPStatusError("502 Bad Gateway", request=None, response=None)

    monkeypatch.setitem(definitions.FLOWS, IngestJob, flow)
    job = IngestJob(workspace=workspace.url, name="photos", source="/")
    if done:
        assert run_tracked(job) == "the result"
    else:
        with pytest.raises(UnavailableError, match=r"Prefect server .*502 .*again to go on"):
            run_tracked(job)


def test_a_flow_takes_plain_json_and_refuses_what_is_none(workspace):
    from prefect.exceptions import ParameterTypeError, SignatureMismatchError

    from flows.tracked.definitions import FLOWS, build_caches, ingest_dataset

    for flow in FLOWS.values():
        told = {name: of["description"] for name, of in flow.parameters.properties.items()}
        assert told["workspace"].startswith("URL of the workspace"), flow.name
        assert all(told.values()), flow.name
        json.dumps(flow.parameters.model_dump())
    given = {
        "workspace": workspace.url,
        "dataset": "photos",
        "extractors": [{"model": "efficientnet-lite0", "layers": ["blocks.6"]}],
    }
    [choice] = build_caches.validate_parameters(given)["extractors"]
    assert choice.layers == ("blocks.6",)
    for wrong in ({"extractors": [{"model": 3}]}, {"dtype": "int8"}, {"threads": "many"}):
        with pytest.raises(ParameterTypeError):
            build_caches.validate_parameters({**given, **wrong})
    with pytest.raises(SignatureMismatchError):
        ingest_dataset.validate_parameters({**given, "colour": "red"})


def test_what_can_pass_is_tried_again_until_it_passes(runs, at_once, table, workspace):
    job, proxy = table
    proxy.fail("503", path="few.csv", times=1000)
    with pytest.raises(UnavailableError):
        job.run()
    asked_in_vain = proxy.count(path="few.csv")
    proxy.heal()
    proxy.forget()
    undisturbed = job.run()
    asked = proxy.count(path="few.csv")
    for folder in ("catalog", "datasets"):
        workspace.delete(folder)
    proxy.forget()
    proxy.fail("503", path="few.csv", times=2 * asked_in_vain)
    entry = run_tracked(job)
    runs.check_stages(runs.last(), {"ingest": 3, "register": 1})
    assert proxy.count(path="few.csv") == 2 * asked_in_vain + asked
    assert (entry.id, entry.facts["unreadable"]) == (undisturbed.id, 0)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (UnavailableError("no answer"), True),
        (ClusterLostError("the scheduler is gone"), True),
        (ClusterError("a worker lacks torch"), False),
        (StorageFullError("no space"), False),
        (None, False),
    ],
)
def test_only_what_was_lost_is_tried_again(error, passes):
    from flows.tracked.retries import can_pass

    assert can_pass(None, None, SimpleNamespace(data=error)) is passes


@pytest.mark.parametrize(
    ("answer", "error", "attempts"), [("503", UnavailableError, 4), ("404", NotFoundError, 1)]
)
def test_what_does_not_pass_is_given_up(runs, at_once, table, workspace, answer, error, attempts):
    """At once where it cannot pass."""
    job, proxy = table
    proxy.fail(answer, path="few.csv", times=1000)
    with pytest.raises(error):
        job.run()
    once = proxy.count(path="few.csv")
    with pytest.raises(error):
        run_tracked(job)
    runs.check_stages(runs.last(), {"ingest": attempts})
    assert proxy.count(path="few.csv") == (1 + attempts) * once
    assert runs.last()["state_name"] == "Failed"
    assert workspace.walk() == []
