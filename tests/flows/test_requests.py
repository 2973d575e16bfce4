"""Asking for a cache: found in a catalog, or built, and what is told of it."""

import shutil
import threading

import pytest
from makers import write_photos

import catalog
import flows
from flows import requested_builds, requests
from flows.jobs.building import BuildJob
from flows.requests import request_cache
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import AccessError, IncompleteError, NotFoundError, SourceError
from vfs_ops.progress import Progress
from vfs_ops.store.workspace import Workspace

ASKED = {"dataset": "photos", "model": "timm:resnet10t", "layer": "layer4", "weights": "random:0"}


@pytest.fixture(autouse=True)
def no_server(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photographed(dataset):
    catalog.register_dataset(dataset.workspace, "photos", dataset)
    return dataset.workspace


def test_a_missing_cache_is_built_here_and_then_found(photographed, tmp_path):
    asked = request_cache(**ASKED, workspaces=photographed)
    assert asked.located is None
    assert "a thread of this process" in repr(asked)
    cache = asked.wait(150)
    assert cache.id == asked.cache_id
    assert asked.done()
    told = asked.progress()
    assert told.done == told.total
    again = request_cache(**ASKED, workspaces=[photographed])
    assert (again.work, again.done(), again.progress()) == (None, True, None)
    assert again.located.entry.id == cache.id
    assert again.wait().id == cache.id
    shutil.copytree(tmp_path / "workspace", tmp_path / "public")
    empty = Workspace.at(str(tmp_path / "team"))
    public = Workspace.at(str(tmp_path / "public"))
    elsewhere = request_cache(**ASKED, workspaces=[empty, public])
    assert (elsewhere.workspace, elsewhere.work) == (public, None)
    with pytest.raises(NotFoundError, match=r"lies in .*public; mirror .* --kind dataset .*team"):
        request_cache(**{**ASKED, "weights": "random:1"}, workspaces=[empty, public])


def test_a_cache_is_opened_with_the_labels_that_were_asked_for(
    caches, photos, tmp_path, monkeypatch
):
    """The same images in folders of other names are another dataset, and the same features."""
    workspace, dataset = caches[0].workspace, caches[0].dataset
    monkeypatch.setattr(requests, "_spec", lambda *_: caches[0].spec)
    catalog.register_dataset(workspace, "photos", dataset)
    catalog.register_cache(workspace, "photos-toy", caches[0], dataset_name="photos")
    public = Workspace.at(str(tmp_path / "public"))
    shutil.copytree(tmp_path / "workspace", tmp_path / "public")
    for label, other in (("even", "one"), ("odd", "two")):
        shutil.copytree(photos / label, tmp_path / "pictures" / other)
    pictures = ingest(str(tmp_path / "pictures"), workspace)
    catalog.register_dataset(workspace, "pictures", pictures)
    team = Workspace.at(str(tmp_path / "team"))
    catalog.register_dataset(team, "pictures", ingest(str(tmp_path / "pictures"), team))

    def asked(dataset, *places, **more):
        request = request_cache(**{**ASKED, "dataset": dataset}, workspaces=places, **more)
        cache = request.wait()
        assert (request.work, cache.id) == (None, caches[0].id)
        return request.located, cache.dataset

    located, shown = asked("pictures", team, public)  # nothing can be registered there
    assert (located.workspace, located.entry.name) == (public, "photos-toy")
    assert set(shown.table(["label"])["label"].to_pylist()) == {"one", "two"}
    for _ in range(2):  # registered once, without computing anything
        located, shown = asked("pictures", workspace, name="pictures-toy")
        assert (located.entry.reference, shown.id) == ("pictures-toy@1", pictures.id)
    located, shown = asked("photos", workspace)
    assert (located.entry.reference, shown.id) == ("photos-toy@1", dataset.id)


def test_what_a_build_fails_with_is_raised_by_who_waits(photographed, tmp_path):
    asked = request_cache(**ASKED, workspaces=photographed, images=str(tmp_path / "nowhere"))
    with pytest.raises((SourceError, NotFoundError)):
        asked.wait(150)
    with pytest.raises((SourceError, NotFoundError)):
        asked.done()


def test_a_build_that_lasts_is_waited_for_again(photographed, monkeypatch):
    go = threading.Event()

    def run(self, watcher):
        watcher.progress(Progress("build", 1, 60, "images"))
        go.wait(60)
        raise SourceError("stopped on purpose")

    monkeypatch.setattr(BuildJob, "run", run)
    asked = request_cache(**ASKED, workspaces=photographed)
    with pytest.raises(TimeoutError, match="still being built"):
        asked.wait(0.01)
    assert not asked.done()
    assert request_cache(**ASKED, workspaces=photographed).work is asked.work
    assert request_cache(**ASKED, workspaces=photographed, name="toy").work is not asked.work
    go.set()
    with pytest.raises(SourceError, match="on purpose"):
        asked.wait(60)
    assert asked.progress() == Progress("build", 1, 60, "images")
    assert request_cache(**ASKED, workspaces=photographed).work is not asked.work


def test_the_version_of_the_dataset_that_was_asked_for_is_built(
    photographed, dataset, tmp_path, monkeypatch
):
    write_photos(tmp_path / "others", 3)
    others = ingest(str(tmp_path / "others"), photographed)
    catalog.register_dataset(photographed, "photos", others)
    started = []
    monkeypatch.setattr(requests, "start", lambda job, cache: started.append(job))
    asked = [
        request_cache(**{**ASKED, "dataset": reference}, workspaces=photographed)
        for reference in ("photos@1", dataset.id, "photos")
    ]
    planned = [job.prepare().planned[0].spec.id for job in started]
    assert planned == [request.cache_id for request in asked]
    assert planned[0] == planned[1] != planned[2]


class Run:
    """A flow run at a server."""

    name, url = "gentle-otter", "http://127.0.0.1/run"

    def __init__(self, state):
        self.state = state

    def wait(self, timeout=None):
        return self.state


@pytest.mark.parametrize("state", ["Failed", "Crashed", "Cancelled"])
def test_a_flow_run_that_fails_is_an_error(photographed, monkeypatch, state):
    submitted = []
    monkeypatch.setattr(requested_builds.servers, "configured", lambda: "http://127.0.0.1:1/api")
    monkeypatch.setattr(requested_builds.servers, "check_answers", lambda address: None)
    monkeypatch.setattr(
        "flows.tracked.submitting.submit", lambda job, **_: submitted.append(job) or Run(state)
    )
    asked = request_cache(**ASKED, workspaces=photographed, dtype="float32")
    [job] = submitted
    assert (job.workspace, job.dataset, job.dtype) == (photographed.url, "photos@1", "float32")
    assert "gentle-otter" in repr(asked)
    with pytest.raises(IncompleteError, match=f"ended as {state}"):
        asked.wait()


def test_a_flow_run_that_lasts_is_no_error(photographed, monkeypatch):
    run = Run("Running")
    monkeypatch.setattr(requested_builds.servers, "configured", lambda: "http://127.0.0.1:1/api")
    monkeypatch.setattr(requested_builds.servers, "check_answers", lambda address: None)
    monkeypatch.setattr("flows.tracked.submitting.submit", lambda job, **_: run)
    asked = flows.request_cache(**ASKED, workspaces=photographed)
    assert not asked.done()
    with pytest.raises(TimeoutError, match="gentle-otter"):
        asked.wait(1)
    run.state = "Completed"
    assert asked.done()


def test_a_read_only_workspace_is_not_built_in(photographed):
    class Closed(Workspace):
        writable = False

    with pytest.raises(AccessError, match="read-only"):
        request_cache(**ASKED, workspaces=Closed(photographed.url))
    with pytest.raises(NotFoundError):
        request_cache(**{**ASKED, "dataset": "elsewhere"}, workspaces=photographed)
