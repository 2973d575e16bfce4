"""Builds that are interrupted: they pass over it or stop clearly, and nothing is computed twice."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest
from makers import cut_small, make_extractor, write_photos

from vfs_ops import acceptance, claims, retries
from vfs_ops.builder import build, plan_build
from vfs_ops.caches import open_cache
from vfs_ops.clusters import open_cluster
from vfs_ops.datasets import open_dataset
from vfs_ops.errors import (
    AccessError,
    IncompleteError,
    StorageFullError,
    UnavailableError,
)
from vfs_ops.ingestion import ingest
from vfs_ops.layout import cache_key
from vfs_ops.storage import Workspace

pytestmark = pytest.mark.usefixtures("small_shards")

FEATURES = r"/features/c/"


def stored_bytes(cache):
    """Return every object of a cache but the receipts, by its key in the cache."""
    stats = cache.workspace.walk(cache_key(cache.id))
    names = [stat.path for stat in stats if "receipts" not in stat.path]
    return {name: cache.workspace.read(name) for name in names if "complete" not in name}


@pytest.fixture(scope="module")
def undisturbed(_ingested, tmp_path_factory):
    """Return what an undisturbed build stores, by layer."""
    workspace = Workspace.at(str(tmp_path_factory.mktemp("undisturbed")))
    dataset = open_dataset(Workspace.at(str(_ingested[0])), _ingested[1])
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch)
        caches = build(dataset, make_extractor(), workspace=workspace)
    return [stored_bytes(cache) for cache in caches]


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(retries, "PAUSES", (0.0,) * 4)
    monkeypatch.setattr(acceptance, "SAMPLE_IMAGES", 0)


def finished(dataset, workspace):
    planned = plan_build(dataset, make_extractor(), workspace=workspace)
    return [cache.finished_shards for cache in planned]


@pytest.mark.parametrize("how", ["500", "503", "reset", "lost"])
def test_a_storage_that_fails_for_a_while_is_waited_for(
    dataset, s3_workspace, s3_proxy, undisturbed, no_pauses, how
):
    # more often than a single request is tried again
    s3_proxy.fail(how, method="PUT", path=FEATURES, after=3, times=12)
    shards, notices = [], []
    caches = build(
        dataset,
        make_extractor(),
        workspace=s3_workspace,
        on_shard=shards.append,
        on_notice=notices.append,
    )
    assert [stored_bytes(cache) for cache in caches] == undisturbed
    told = [(report.cache, report.shard) for report in shards]
    assert len(set(told)) == len(told) == 8
    assert claims.active(s3_workspace, caches[0].id) == []
    if how != "lost":
        assert any("tried again" in notice for notice in notices)


@pytest.mark.parametrize(
    ("how", "error"), [("quota", StorageFullError), ("400", AccessError), ("403", AccessError)]
)
def test_what_cannot_pass_stops_at_once_and_the_next_run_finishes(
    dataset, s3_workspace, s3_proxy, undisturbed, no_pauses, how, error
):
    s3_proxy.fail(how, method="PUT", path=FEATURES, after=5, times=1000)
    with pytest.raises(error):
        build(dataset, make_extractor(), workspace=s3_workspace)
    assert s3_proxy.count("PUT", FEATURES) == 6
    s3_proxy.heal()
    done = finished(dataset, s3_workspace)
    assert 0 < sum(done) < 8
    for planned in plan_build(dataset, make_extractor(), workspace=s3_workspace):
        with pytest.raises(IncompleteError):
            open_cache(s3_workspace, planned.spec.id, dataset)
    shards = []
    caches = build(dataset, make_extractor(), workspace=s3_workspace, on_shard=shards.append)
    assert len(shards) == 8 - sum(done)
    assert [stored_bytes(cache) for cache in caches] == undisturbed


def test_a_storage_that_stays_away_is_an_error(dataset, s3_workspace, s3_proxy, no_pauses):
    s3_proxy.fail("503", method="PUT", path=FEATURES, times=10**6)
    notices = []
    with pytest.raises(UnavailableError):
        build(dataset, make_extractor(), workspace=s3_workspace, on_notice=notices.append)
    assert len([text for text in notices if "tried again" in text]) == 4


@pytest.mark.long
def test_workers_wait_for_the_storage_too(
    dataset, s3_workspace, s3_proxy, undisturbed, monkeypatch
):
    with open_cluster("local", workers=1, threads=1) as client:
        client.run(_no_pauses_here)
        s3_proxy.fail("503", method="PUT", path=FEATURES, after=2, times=12)
        shards = []
        caches = build(
            dataset,
            make_extractor(),
            workspace=s3_workspace,
            client=client,
            on_shard=shards.append,
        )
    assert [stored_bytes(cache) for cache in caches] == undisturbed
    assert len({(report.cache, report.shard) for report in shards}) == 8


def _no_pauses_here():
    from vfs_ops import attempts

    retries.PAUSES, attempts.FIRST_PAUSE = (0.0,) * 4, 0.001


def test_two_builders_share_the_work(tmp_path, workspace, no_pauses):
    write_photos(tmp_path / "images", 200)
    dataset = ingest(str(tmp_path / "images"), workspace)
    begun, over = threading.Event(), threading.Event()
    first, second, notices = [], [], []

    def wait_for_the_other(report):
        first.append(report.shard)
        begun.set()
        assert over.wait(60)

    def run_first():
        build(dataset, make_extractor(["0"]), on_shard=wait_for_the_other)

    thread = threading.Thread(target=run_first)
    thread.start()
    assert begun.wait(60)
    try:
        [cache] = build(
            dataset,
            make_extractor(["0"]),
            on_shard=lambda report: second.append(report.shard),
            on_notice=notices.append,
        )
    finally:
        over.set()
        thread.join()
    assert f"process {os.getpid()}" in notices[0]
    assert "the work is shared" in notices[0]
    assert second == sorted(second, reverse=True)
    assert set(first) | set(second) == set(range(13))
    # what the first had begun before the second came, and no more, is computed by both
    assert len(first) <= 5
    alone = Workspace.at(f"{tmp_path}/alone")
    [other] = build(dataset, make_extractor(["0"]), workspace=alone)
    assert stored_bytes(cache) == stored_bytes(other)
    assert workspace.walk("claims") == []


@pytest.mark.long
def test_a_build_on_a_cluster_that_is_killed_goes_on(dataset, undisturbed, monkeypatch):
    script = f"""
        import sys
        sys.path[:0] = {[str(Path(__file__).parents[1] / "support"), *sys.path]!r}
        import os, time
        import pytest
        from makers import cut_small, make_extractor
        from vfs_ops.builder import build
        from vfs_ops.clusters import open_cluster
        from vfs_ops.datasets import open_dataset
        from vfs_ops.storage import Workspace

        def hang(report):
            print("shard", flush=True)
            time.sleep(600)

        if __name__ == "__main__":
            cut_small(pytest.MonkeyPatch())
            dataset = open_dataset(Workspace.at({dataset.workspace.url!r}), {dataset.id!r})
            with open_cluster("local", workers=1, threads=1) as client:
                print(*client.run(os.getpid).values(), flush=True)
                build(dataset, make_extractor(), client=client, on_shard=hang)
    """
    folder = Path(dataset.workspace.url.removeprefix("file://"))
    (folder / "script.py").write_text(textwrap.dedent(script))
    with subprocess.Popen(
        [sys.executable, str(folder / "script.py")], stdout=subprocess.PIPE, text=True
    ) as child:
        workers = [psutil.Process(int(pid)) for pid in child.stdout.readline().split()]
        assert child.stdout.readline() == "shard\n"
        os.kill(child.pid, signal.SIGKILL)
    psutil.wait_procs(workers, timeout=60)
    assert not any(worker.is_running() for worker in workers)
    done = finished(dataset, dataset.workspace)
    assert sum(done) > 0
    monkeypatch.setattr(acceptance, "SAMPLE_IMAGES", 0)
    shards, notices = [], []
    caches = build(dataset, make_extractor(), on_shard=shards.append, on_notice=notices.append)
    assert len(shards) == 8 - sum(done)
    assert any("builds the same" in text for text in notices)  # until the claim expires
    assert [stored_bytes(cache) for cache in caches] == undisturbed
