"""Searches on a cluster of processes: what its tasks are, how they end, and what may be lost."""

from __future__ import annotations

import os
import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client
from searches import found
from waiting import until

from vfs_ops.caches.cache import Cache
from vfs_ops.errors import QueryError
from vfs_ops.kernel.topk import best_of
from vfs_ops.scans import cluster_runs
from vfs_ops.scans.cluster_runs import run_task, score_in_turn
from vfs_ops.scans.plan import DEFAULT_THREADS, ShardTask, plan_scan
from vfs_ops.scans.queries import query_from_row
from vfs_ops.scans.search import search, search_iter
from vfs_ops.scans.tasks import ScanJob, Scorer


def test_workers_that_cannot_see_the_cache_are_refused(cache: Cache, processes: Client) -> None:
    with pytest.raises(QueryError, match="memory of this process"):
        search(cache.load(), query_from_row(cache, 3), client=processes)


def test_an_active_client_is_used(cache: Cache, processes: Client) -> None:
    query = query_from_row(cache, 3)
    assert search(cache, query).provenance.executor == f"{DEFAULT_THREADS} threads"
    with processes.as_current():
        hits = search(cache, query)
        assert hits.provenance.executor == f"cluster {processes.scheduler.address}"
        assert "thread" in search(cache.load(), query).provenance.executor
    assert found([hits]) == found([search(cache, query)])


def test_a_plan_tells_the_threads_of_the_cluster(cache: Cache, processes: Client) -> None:
    assert plan_scan(cache, client=processes).threads == 2
    with processes.as_current():
        assert plan_scan(cache).threads == 2
        assert plan_scan(cache.load()).threads == DEFAULT_THREADS
    with pytest.raises(QueryError, match="memory of this process"):
        plan_scan(cache.load(), client=processes)


def test_threads_bound_a_cluster_too(
    cache: Cache, processes: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    submit, given, most, on_submit = processes.submit, [], [], []

    def counted(function: Any, *parts: Any, **options: Any) -> Any:
        future = submit(function, *parts, **options)
        if function is run_task:
            most.append(1 + sum(not before.done() for before in given))
            given.append(future)
            for act in on_submit:
                act()
        return future

    monkeypatch.setattr(processes, "submit", counted)
    query = query_from_row(cache, 3)
    hits = search(cache, query, 20, client=processes, threads=1)
    assert found([hits]) == found([search(cache, query, 20)])
    assert set(most) == {1}
    assert len(most) > 1
    marker = tmp_path / "two"
    on_submit.append(lambda: marker.touch() if most[-1] == 2 else None)
    waiting = _with_source(cache, _WaitsForTwo(cache.source, str(marker)))
    search(waiting, query, 20, client=processes)
    assert max(most) > 1


def test_a_lost_worker_costs_no_answer(
    cache: Cache, processes: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = query_from_row(cache, 3)
    expected = search(cache, query, 20)
    source = _KillsOnce(cache.source, str(tmp_path / "killed"))
    hits = search(_with_source(cache, source), query, 20, client=processes)
    assert (tmp_path / "killed").exists()
    assert found([hits]) == found([expected])
    assert hits.provenance.complete


def test_a_cancelled_scan_of_a_cluster_leaves_nothing_behind(
    cache: Cache, processes: Client
) -> None:
    with search_iter(cache, query_from_row(cache, 3), client=processes) as run:
        next(run)
        run.cancel()
        assert [partial for partial in run if partial.complete] == []
    until(lambda: not any(processes.who_has().values()))


def test_a_worker_stops_at_its_shard_when_the_scan_is_given_up(
    cache: Cache, processes: Client, tmp_path: Path
) -> None:
    waiting = _with_source(cache, _Waits(cache.source, str(tmp_path)))
    query = query_from_row(cache, 3)
    with (
        search_iter(waiting, query, client=processes, threads=1) as run,  # so a task of shards
        ThreadPoolExecutor(1) as pool,
    ):
        partials = pool.submit(list, run)
        until((tmp_path / "0").exists)
        run.cancel()
        assert partials.result() == []
        until(lambda: "executing" not in _states(processes))
        (tmp_path / "go").touch()
        until(lambda: not _states(processes))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["0", "go"]


def _states(client: Client) -> list[str]:
    def states(dask_worker: Any) -> list[str]:
        return [task.state for task in dask_worker.state.tasks.values()]

    return [state for found in client.run(states).values() for state in found]


def test_the_queries_reach_a_worker_as_they_are(cache: Cache) -> None:
    job = _job(cache)
    copied = pickle.loads(pickle.dumps(Scorer(job, [query_from_row(cache, 3).pattern])))
    [receipt, *_] = cache.receipts
    task = ShardTask(receipt, None, None, True, 0)
    ours = Scorer(job, [query_from_row(cache, 3).pattern]).run(task, lambda: [-np.inf])
    theirs = copied.run(task, lambda: [-np.inf])
    assert ours is not None
    assert theirs is not None
    np.testing.assert_array_equal(ours.best[0].score, theirs.best[0].score)


def test_what_a_task_has_found_is_what_its_next_shards_must_reach(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(_job(cache), [query_from_row(cache, 3).pattern])
    tasks = _tasks(cache)
    alone = [scorer.run(task, lambda: [-np.inf]).best[0] for task in tasks]  # type: ignore[union-attr]
    reached, run = [], Scorer.run

    def noted(self: Scorer, task: ShardTask, floors: Any, cancelled: Any) -> Any:
        reached.append(floors()[0])
        return run(self, task, floors, cancelled)

    monkeypatch.setattr(Scorer, "run", noted)
    *first, last = score_in_turn(scorer, tasks, [-np.inf])
    so_far = [best_of(alone[:count], 3) for count in (1, 2, 3, 4)]
    assert reached == [-np.inf, *(best.floor(3) for best in so_far[:-1])]
    assert [result.shard for result in (*first, last)] == [0, 1, 2, 3]
    assert [len(result.best[0]) for result in first] == [0, 0, 0]
    [best], expected = last.best, so_far[-1]
    for name in ("score", "image", "y", "x"):
        np.testing.assert_array_equal(getattr(best, name), getattr(expected, name))


def test_a_task_ends_by_the_clock_and_gives_back_what_it_has_not_begun(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_runs, "TASK_SECONDS", 0.0)
    scorer, tasks = Scorer(_job(cache), [query_from_row(cache, 3).pattern]), _tasks(cache)
    assert [result.shard for result in score_in_turn(scorer, tasks[1:], [-np.inf])] == [1]
    assert score_in_turn(scorer, tasks, [-np.inf], lambda: True) == []


def test_what_tasks_give_back_is_done_by_others(cache: Cache, processes: Client) -> None:
    query = query_from_row(cache, 3)
    processes.run(_end_tasks_after, 0.0)
    try:
        hits = search(cache, query, 20, client=processes, threads=1)  # so tasks of two shards
    finally:
        processes.run(_end_tasks_after, cluster_runs.TASK_SECONDS)
    assert found([hits]) == found([search(cache, query, 20)])
    assert hits.provenance.shards_read == 4


def _end_tasks_after(seconds: float) -> None:
    cluster_runs.TASK_SECONDS = seconds  # type: ignore[misc]


def _job(cache: Cache) -> ScanJob:
    return ScanJob(cache.source, cache.grid, 3, (np.empty(0, np.int64),), False)


def _tasks(cache: Cache) -> list[ShardTask]:
    return [ShardTask(receipt, None, None, True, 0) for receipt in cache.receipts]


class _Marked:
    """A source that does something before it reads, by what a file says that all processes see."""

    def __init__(self, source: Any, marker: str) -> None:
        self.source, self.marker = source, marker

    def read_features(self, receipt: Any, wanted: Any) -> Any:
        return self.source.read_features(receipt, wanted)


class _WaitsForTwo(_Marked):
    """Waits until a second task is under way, so that none is done before; a while at most."""

    def read(self, receipt: Any, wanted: Any, scratch: Any) -> Any:
        end = time.monotonic() + 60
        while not Path(self.marker).exists() and time.monotonic() < end:
            time.sleep(0.01)
        return self.source.read(receipt, wanted, scratch)


class _KillsOnce(_Marked):
    """Kills the first worker that asks it for the third shard."""

    def read(self, receipt: Any, wanted: Any, scratch: Any) -> Any:
        if receipt.shard == 2:
            try:
                os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.source.read(receipt, wanted, scratch)


class _Waits:
    """A source that notes each shard it is asked for, and waits for a file before it answers."""

    def __init__(self, source: Any, folder: str) -> None:
        self.source, self.folder = source, folder

    def read(self, receipt: Any, wanted: Any, scratch: Any) -> Any:
        Path(self.folder, str(receipt.shard)).touch()
        until(Path(self.folder, "go").exists)
        return self.source.read(receipt, wanted, scratch)


def _with_source(cache: Cache, source: Any) -> Cache:
    return replace(cache, source=source)
