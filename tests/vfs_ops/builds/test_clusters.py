"""Clusters: what is opened, what is refused, and what a scheduler's end looks like."""

import json
import os
import signal
import sys
import tempfile
from types import SimpleNamespace

import dask
import distributed
import numpy as np
import pytest
import torch
from certificates import localhost_certificate
from dask_processes import running_scheduler, running_worker
from distributed import Client
from made_caches import made_cache, made_query
from makers import make_extractor, stored_bytes
from saboteurs import Saboteur

from vfs_ops.builds import allocation, clusters
from vfs_ops.builds.allocation import KEEPING
from vfs_ops.builds.builder import build, plan_build
from vfs_ops.builds.clusters import local_layout, open_cluster
from vfs_ops.builds.distribution import threads_here
from vfs_ops.builds.verification import verify
from vfs_ops.errors import ClusterError, ClusterLostError, InputError, MissingDependencyError
from vfs_ops.scans.clusters import check_versions
from vfs_ops.scans.search import search
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
        pytest.raises(ClusterLostError, match="no scheduler answers"),
        open_cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_a_scheduler_that_goes_as_it_is_asked_is_lost(monkeypatch):
    class Going:
        def __init__(self, *_, **__):
            pass

        def get_versions(self, packages):
            raise OSError("in <TCP>: Stream is closed")

        def close(self, timeout):
            pass

    monkeypatch.setattr(distributed, "Client", Going)
    with pytest.raises(ClusterLostError, match="is closed"), open_cluster("tcp://127.0.0.1:9"):
        pass


def test_a_local_cluster_computes_with_its_threads_and_leaves_nothing(monkeypatch, tmp_path):
    """Its workers keep what they free, and this process is left alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of this process, not of the workers
    os.environ.pop("__DASK_PARENT_PID", None)
    before = dict(os.environ)
    with open_cluster("local", workers=1, threads=2) as client:
        assert set(client.run(threads_here).values()) == {2}
        if allocation._glibc() is not None:
            assert list(client.run(_settled).values()) == [dict(KEEPING)]
        [pid] = client.run(os.getpid).values()
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    os.environ.pop("__DASK_PARENT_PID", None)  # a note that Dask leaves for itself
    assert dict(os.environ) == before


def _settled():
    with open("/proc/self/environ") as began:  # as the process began, before Python changed it
        pairs = [pair.partition("=") for pair in began.read().split("\0")]
    return {name: value for name, _, value in pairs if name in KEEPING}


def _told(**packages):
    """Return a client that tells what everybody has, as Dask does."""
    told = {who: {"packages": have} for who, have in packages.items()}
    told["workers"] = {"tcp://w": told["worker"]}
    return SimpleNamespace(get_versions=lambda packages: told)


def test_other_versions_are_named():
    dask = {"python": "3.11.7.final.0", "dask": "2026.8.0", "distributed": "2026.8.1"}
    ours = {**dask, "torch": "2.9", "visual-feature-search": "1.0"}
    same = {"client": ours, "worker": {**ours, "python": "3.11.2.final.0"}, "scheduler": dask}
    check_versions(_told(**same))
    cases = [
        (
            "scheduler",
            {"python": "2.7.18.final.0"},
            r"the scheduler has Python 2\.7; .* 3\.11 there",
        ),
        (
            "scheduler",
            {"dask": "1.0"},
            r"the scheduler has dask 1\.0; install dask 2026\.8\.0 there",
        ),
        ("worker", {"torch": "0.1"}, r"worker tcp://w has torch 0\.1; install torch 2\.9 there"),
        ("worker", {"torch": None}, r"worker tcp://w lacks torch; install torch 2\.9 there"),
    ]
    for who, other, message in cases:
        with pytest.raises(ClusterError, match=message):
            check_versions(_told(**{**same, who: {**same[who], **other}}))


@pytest.mark.usefixtures("small_shards")
def test_a_scheduler_needs_nothing_of_ours(dataset, tmp_path):
    with (
        running_scheduler(tmp_path, bare=True) as (_, address),
        running_worker(tmp_path),
        open_cluster(address) as client,
    ):
        client.wait_for_workers(1, timeout=300)
        shards = []
        caches = build(dataset, make_extractor(), client=client, on_shard=shards.append)
        assert len(shards) == 8
        assert [verify(cache, client=client) for cache in caches] == [[], []]


def test_a_worker_without_our_packages_is_an_error_in_one_line(tmp_path):
    """Of builds, which look as they open the cluster, and of searches, which are given a client."""
    maps = np.ones((4, 2, 2, 3), np.float32)
    cache = made_cache(Workspace.at(str(tmp_path / "searched")), maps)
    query = made_query(cache, np.ones((1, 1)), maps[0, :1, :1])

    def open_for_a_build():
        with open_cluster(address):
            pass

    with (
        running_scheduler(tmp_path) as (_, address),
        running_worker(tmp_path, bare=True),
        Client(address) as client,
    ):
        client.wait_for_workers(1, timeout=300)
        for use in (open_for_a_build, lambda: search(cache, query, 2, client=client)):
            with pytest.raises(ClusterError, match="lacks visual-feature-search; inst") as caught:
                use()
            assert "\n" not in str(caught.value)
            assert not isinstance(caught.value, ClusterLostError)


@pytest.fixture
def scheduler(tmp_path):
    """Start a scheduler and a worker; returns the scheduler's process and address."""
    with running_scheduler(tmp_path) as running, running_worker(tmp_path):
        yield running


@pytest.mark.long
@pytest.mark.usefixtures("small_shards")
def test_a_scheduler_that_is_killed_is_an_error_and_the_next_run_goes_on(
    dataset, photos, tmp_path, scheduler
):
    process, address = scheduler
    with open_cluster(address) as client:
        client.wait_for_workers(1, timeout=300)
        uri = dataset.rows([33], ["uri"])["uri"][0].as_py()
        marks = tmp_path / "marks"
        marks.mkdir()

        def kill(report):
            if report.shard == 0:
                process.send_signal(signal.SIGKILL)

        reader = Saboteur(str(photos), uri, str(marks), "unavailable", times=3)
        with pytest.raises(ClusterLostError, match=r"scheduler is gone.*run again"):
            build(dataset, make_extractor(), client=client, images=reader, on_shard=kill)
    finished = [cache.finished_shards for cache in plan_build(dataset, make_extractor())]
    shards = []
    caches = build(dataset, make_extractor(), on_shard=shards.append)
    assert len(shards) == 8 - sum(finished) < 8
    assert [verify(cache) for cache in caches] == [[], []]
    undisturbed = build(dataset, make_extractor(), workspace=Workspace.at(f"{tmp_path}/other"))
    assert list(map(stored_bytes, caches)) == list(map(stored_bytes, undisturbed))


def test_an_encrypted_cluster_without_certificates_says_what_is_missing():
    with pytest.raises(InputError, match=r"distributed.comm.tls.ca-file, .client.cert"):
        clusters.check_cluster("tls://node:8786")


@pytest.mark.long
def test_an_encrypted_cluster_is_reached_by_the_configuration_of_dask(tmp_path, monkeypatch):
    secret, pem = localhost_certificate()
    (tmp_path / "key.pem").write_bytes(secret)
    (tmp_path / "cert.pem").write_bytes(pem)
    both = {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    roles = dict.fromkeys(("scheduler", "worker", "client"), both)
    tls = {"ca-file": both["cert"], **roles}
    comm = {"require-encryption": True, "tls": tls}
    (tmp_path / "tls.yaml").write_text(json.dumps({"distributed": {"comm": comm}}))
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path / "tls.yaml"))
    with (
        running_scheduler(tmp_path) as (_, address),
        running_worker(tmp_path),
        dask.config.set({f"distributed.comm.tls.{name}": value for name, value in tls.items()}),
        clusters.open_cluster(address) as client,
    ):
        assert address.startswith("tls://")
        client.wait_for_workers(1, timeout=300)
        assert client.submit(sum, [1, 2]).result() == 3
