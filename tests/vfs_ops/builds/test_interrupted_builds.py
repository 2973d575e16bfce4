"""Builds that are interrupted: they pass over it or stop clearly, and nothing is computed twice."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest
from makers import make_extractor, stored_bytes, write_photos

from vfs_ops.builds import acceptance, claims, execution, retries
from vfs_ops.builds.builder import build, plan_build
from vfs_ops.builds.clusters import open_cluster
from vfs_ops.caches.cache import open_cache
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import (
    AccessError,
    IncompleteError,
    StorageFullError,
    UnavailableError,
)
from vfs_ops.store import filesystems
from vfs_ops.store.workspace import Workspace

pytestmark = pytest.mark.usefixtures("small_shards")

FEATURES = r"/features/c/"
ONE = ("0",)
"""A layer of four shards: half of what `undisturbed` holds, where that proves the same."""


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(retries, "PAUSES", (0.0,) * 4)
    monkeypatch.setattr(acceptance, "SAMPLE_IMAGES", 0)


def finished(dataset, workspace, layers=("0", "2")):
    planned = plan_build(dataset, make_extractor(layers), workspace=workspace)
    return [cache.finished_shards for cache in planned]


@pytest.mark.parametrize("how", ["500", "503", "reset", "lost"])
def test_a_storage_that_fails_for_a_while_is_waited_for(
    dataset, s3_workspace, s3_proxy, undisturbed, no_pauses, how
):
    # more often than a single request is tried again
    s3_proxy.fail(how, method="PUT", path=FEATURES, after=2, times=12)
    shards, notices = [], []
    caches = build(
        dataset,
        make_extractor(ONE),
        workspace=s3_workspace,
        on_shard=shards.append,
        on_notice=notices.append,
    )
    assert [stored_bytes(cache) for cache in caches] == undisturbed[:1]
    told = [(report.cache, report.shard) for report in shards]
    assert len(set(told)) == len(told) == 4
    assert claims.active(s3_workspace, caches[0].id) == []
    if how != "lost":
        assert any("tried again" in notice for notice in notices)


@pytest.mark.long
def test_a_storage_that_never_answers_is_asked_again(
    dataset, s3_workspace, s3_proxy, undisturbed, no_pauses, monkeypatch
):
    monkeypatch.setattr(filesystems, "READ_SECONDS", 1.0)
    filesystems.filesystem.cache_clear()
    s3_proxy.fail("hang", method="PUT", path=FEATURES, after=3, times=7)
    shards, notices = [], []
    caches = build(
        dataset,
        make_extractor(),
        workspace=s3_workspace,
        on_shard=shards.append,
        on_notice=notices.append,
    )
    assert s3_proxy.count("PUT", FEATURES) == 8 + 7
    assert len([notice for notice in notices if "tried again" in notice]) == 1
    assert len(shards) == 8
    assert [stored_bytes(cache) for cache in caches] == undisturbed


@pytest.mark.parametrize(
    ("how", "error"), [("quota", StorageFullError), ("400", AccessError), ("403", AccessError)]
)
def test_what_cannot_pass_stops_at_once_and_the_next_run_finishes(
    dataset, s3_workspace, s3_proxy, undisturbed, no_pauses, how, error
):
    s3_proxy.fail(how, method="PUT", path=FEATURES, after=2, times=1000)
    with pytest.raises(error):
        build(dataset, make_extractor(ONE), workspace=s3_workspace)
    assert s3_proxy.count("PUT", FEATURES) == 3
    s3_proxy.heal()
    done = finished(dataset, s3_workspace, ONE)
    assert 0 < sum(done) < 4
    for planned in plan_build(dataset, make_extractor(ONE), workspace=s3_workspace):
        with pytest.raises(IncompleteError):
            open_cache(s3_workspace, planned.spec.id, dataset)
    shards = []
    caches = build(dataset, make_extractor(ONE), workspace=s3_workspace, on_shard=shards.append)
    assert len(shards) == 4 - sum(done)
    assert [stored_bytes(cache) for cache in caches] == undisturbed[:1]


@pytest.mark.parametrize(
    ("method", "path", "times"),
    [
        ("GET", r"/plan\.json", 9),  # to plan
        ("PUT", r"/plan\.json", 9),  # to begin
        ("GET", r"list-type=2.*receipts", 9),  # to find what is missing
        ("GET", FEATURES, 9),  # to check
        ("PUT", r"/receipts\.parquet", 9),  # to commit
        ("PUT", r"/complete\.json", 9),
    ],
)
def test_all_steps_of_a_build_wait_for_the_storage(
    dataset, s3_workspace, s3_proxy, undisturbed, no_pauses, monkeypatch, method, path, times
):
    monkeypatch.setattr(execution, "_READERS", 1)  # several would share the failures
    s3_proxy.fail("503", method=method, path=path, times=times)  # a request is sent 6 times
    shards, notices = [], []
    caches = build(
        dataset,
        make_extractor(ONE),
        workspace=s3_workspace,
        on_shard=shards.append,
        on_notice=notices.append,
    )
    assert len([notice for notice in notices if "tried again" in notice]) == 1
    assert len([one for one in s3_proxy.requests if one.failed]) == times
    assert len(shards) == 4
    assert [stored_bytes(cache) for cache in caches] == undisturbed[:1]


def test_copying_shards_waits_for_the_storage(tmp_path, s3_workspace, s3_proxy, no_pauses):
    photos = tmp_path / "images"
    write_photos(photos, 40)
    first = ingest(str(photos), s3_workspace)
    build(first, make_extractor(["0"]), images=str(photos))
    write_photos(photos, 4, seed=1, first=40)
    grown = ingest(str(photos), s3_workspace, previous=first)
    s3_proxy.fail("503", method="GET", path=FEATURES, times=20)
    shards, notices = [], []
    build(
        grown,
        make_extractor(["0"]),
        images=str(photos),
        on_shard=shards.append,
        on_notice=notices.append,
    )
    assert sorted((one.shard, one.action) for one in shards) == [
        (0, "copied"),
        (1, "copied"),
        (2, "computed"),
    ]
    assert any("tried again" in notice for notice in notices)


def test_a_storage_that_stays_away_is_an_error(dataset, s3_workspace, s3_proxy, no_pauses):
    s3_proxy.fail("503", method="PUT", path=FEATURES, times=10**6)
    notices = []
    with pytest.raises(UnavailableError):
        build(dataset, make_extractor(ONE), workspace=s3_workspace, on_notice=notices.append)
    assert len([text for text in notices if "tried again" in text]) == 4


@pytest.fixture
def one_worker():
    """Return the client of a worker that does not wait long for a storage."""
    with open_cluster("local", workers=1, threads=1) as client:
        client.run(_hasty)
        yield client


def _hasty():
    from vfs_ops.store import attempts

    retries.PAUSES, attempts.FIRST_PAUSE = (0.0,) * 4, 0.001
    filesystems.READ_SECONDS = 1.0


@pytest.mark.long
@pytest.mark.parametrize(("how", "times"), [("503", 12), ("reset", 12), ("hang", 6)])
def test_workers_wait_for_the_storage_too(
    dataset, s3_workspace, s3_proxy, undisturbed, one_worker, how, times
):
    s3_proxy.fail(how, method="PUT", path=FEATURES, after=2, times=times)
    shards = []
    caches = build(
        dataset,
        make_extractor(),
        workspace=s3_workspace,
        client=one_worker,
        on_shard=shards.append,
    )
    assert s3_proxy.count("PUT", FEATURES) == 8 + times
    assert [stored_bytes(cache) for cache in caches] == undisturbed
    assert len({(report.cache, report.shard) for report in shards}) == len(shards) == 8


@pytest.mark.long
@pytest.mark.parametrize(("how", "error"), [("quota", StorageFullError), ("400", AccessError)])
def test_what_cannot_pass_on_a_worker_stops_the_build_at_once(
    dataset, s3_workspace, s3_proxy, undisturbed, one_worker, how, error
):
    s3_proxy.fail(how, method="PUT", path=FEATURES, after=3, times=1000)
    with pytest.raises(error):
        build(dataset, make_extractor(), workspace=s3_workspace, client=one_worker)
    s3_proxy.heal()
    # each of the two tasks under way may have hit on it, and a third begun meanwhile
    assert s3_proxy.count("PUT", FEATURES) <= 3 + 3
    _goes_on(dataset, s3_workspace, one_worker, undisturbed)


@pytest.mark.long
def test_a_disk_that_is_full_on_a_worker_stops_the_build_at_once(
    dataset, workspace, undisturbed, one_worker
):
    one_worker.run(_fill_disk, 9)
    try:
        with pytest.raises(StorageFullError, match="free some and run again"):
            build(dataset, make_extractor(), workspace=workspace, client=one_worker)
    finally:
        one_worker.run(_free_disk)
    _goes_on(dataset, workspace, one_worker, undisturbed)


def _goes_on(dataset, workspace, client, undisturbed):
    """Check that the next run computes what has no receipt, and nothing else."""
    done = finished(dataset, workspace)
    assert 0 < sum(done) < 8
    shards = []
    caches = build(
        dataset, make_extractor(), workspace=workspace, client=client, on_shard=shards.append
    )
    assert len(shards) == 8 - sum(done)
    assert [stored_bytes(cache) for cache in caches] == undisturbed


def _fill_disk(writes):
    os.flushed, left = os.fsync, iter(range(writes))

    def fsync(descriptor):
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.flushed(descriptor)

    os.fsync = fsync


def _free_disk():
    os.fsync = os.flushed


def test_two_builders_share_the_work(tmp_path, workspace, no_pauses):
    write_photos(tmp_path / "images", 200)
    dataset = ingest(str(tmp_path / "images"), workspace)
    begun, over = threading.Event(), threading.Event()
    first, second, notices = [], [], []

    def wait_for_the_other(report):
        first.append(report.shard)
        begun.set()
        assert over.wait(150)

    def run_first():
        build(dataset, make_extractor(["0"]), on_shard=wait_for_the_other)

    thread = threading.Thread(target=run_first)
    thread.start()
    assert begun.wait(150)
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
        sys.path[:0] = {[str(Path(__file__).parents[2] / "support"), *sys.path]!r}
        import os, time
        import pytest
        from makers import cut_small, make_extractor, stored_bytes
        from vfs_ops.builds.builder import build
        from vfs_ops.builds.clusters import open_cluster
        from vfs_ops.datasets.dataset import open_dataset
        from vfs_ops.store.workspace import Workspace

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
