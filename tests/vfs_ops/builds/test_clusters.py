"""Clusters: what is opened, what is refused, and what a scheduler's end looks like."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest
import torch
from makers import make_extractor, stored_bytes
from saboteurs import Saboteur

from vfs_ops.builds import clusters
from vfs_ops.builds.builder import build, plan_build
from vfs_ops.builds.clusters import local_layout, open_cluster
from vfs_ops.builds.verification import verify
from vfs_ops.errors import ClusterError, InputError, MissingDependencyError
from vfs_ops.store.workspace import Workspace


@pytest.mark.parametrize("text", ["", "cpu", "node:8786", "http://node:8786", "tcp://", "LOCAL"])
def test_what_is_no_cluster_is_refused(text):
    with pytest.raises(InputError, match="address of a Dask"), open_cluster(text):
        pass


@pytest.mark.parametrize("given", [{"workers": 0}, {"threads": 0}, {"workers": -1}])
def test_impossible_sizes_are_refused(given):
    with pytest.raises(InputError, match="at least 1"), open_cluster(**given):
        pass
    with pytest.raises(InputError, match="local cluster"), open_cluster("tcp://a:1", workers=1):
        pass


def test_without_a_gpu_cuda_says_so_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ClusterError, match="no GPU") as caught, open_cluster("cuda"):
        pass
    assert "\n" not in str(caught.value)


def test_without_dask_cuda_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    with pytest.raises(MissingDependencyError, match=r"\[cuda\]"), open_cluster("cuda"):
        pass


def test_processors_are_shared_out(monkeypatch):
    for processors, layout in ((1, (1, 1)), (2, (1, 2)), (8, (2, 4)), (64, (16, 4))):
        monkeypatch.setattr(clusters, "available_threads", lambda count=processors: count)
        assert local_layout(None, None) == layout
        assert local_layout(2, 3) == (2, 3)


def test_a_scheduler_that_does_not_answer_is_an_error(monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 0.3)
    with (
        pytest.raises(ClusterError, match="no scheduler answers"),
        open_cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_a_local_cluster_computes_with_its_threads_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_cluster("local", workers=1, threads=2) as client:
        assert set(client.run(torch.get_num_threads).values()) == {2}
        [pid] = client.run(os.getpid).values()
        assert list(tmp_path.iterdir())
        monkeypatch.setattr(clusters, "versions", lambda: {"torch": "0.1"})
        with pytest.raises(ClusterError, match=r"has torch None, and this process 0\.1"):
            clusters._check_versions(_Answers(client, {"w": {}}))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


class _Answers:
    def __init__(self, client, answers):
        self.answers = answers

    def run(self, function):
        return self.answers


@pytest.fixture
def scheduler(tmp_path):
    """Start a scheduler and a worker as other people do; returns its process and address."""
    place = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    first = subprocess.Popen(
        [
            sys.executable,
            *("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
            *("--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
            *("--scheduler-file", str(place)),
        ],
        env=environment,
        **quiet,
    )
    deadline = time.monotonic() + 60
    while not place.exists():
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = subprocess.Popen(
        [
            sys.executable,
            *("-m", "distributed.cli.dask_worker", "--scheduler-file", str(place)),
            *(
                "--nthreads",
                "2",
                "--no-dashboard",
                "--no-nanny",
                "--local-directory",
                str(tmp_path),
            ),
        ],
        env=environment,
        **quiet,
    )
    yield first, json.loads(place.read_text())["address"]
    for process in (second, first):
        process.kill()
        process.wait()


@pytest.mark.long
@pytest.mark.usefixtures("small_shards")
def test_a_scheduler_that_is_killed_is_an_error_and_the_next_run_goes_on(
    dataset, photos, tmp_path, scheduler
):
    process, address = scheduler
    with open_cluster(address) as client:
        client.wait_for_workers(1, timeout=60)
        uri = dataset.rows([33], ["uri"])["uri"][0].as_py()
        marks = tmp_path / "marks"
        marks.mkdir()

        def kill(report):
            if report.shard == 0:
                process.send_signal(signal.SIGKILL)

        reader = Saboteur(str(photos), uri, str(marks), "unavailable", times=3)
        with pytest.raises(ClusterError, match=r"scheduler is gone.*run again"):
            build(dataset, make_extractor(), client=client, images=reader, on_shard=kill)
    finished = [cache.finished_shards for cache in plan_build(dataset, make_extractor())]
    shards = []
    caches = build(dataset, make_extractor(), on_shard=shards.append)
    assert len(shards) == 8 - sum(finished) < 8
    assert [verify(cache) for cache in caches] == [[], []]
    undisturbed = build(dataset, make_extractor(), workspace=Workspace.at(f"{tmp_path}/other"))
    assert list(map(stored_bytes, caches)) == list(map(stored_bytes, undisturbed))
