"""Running the tasks of a scan on the workers of a cluster.

What a cluster costs are its messages: about ten for each of its tasks, some milliseconds of its
client, scheduler and workers. So a task has many shards, and ends by the clock: what it has not
begun by then it gives back.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any, Final

import torch

from vfs_ops.errors import UnavailableError
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.topk import Best
from vfs_ops.scans.clusters import check_versions_once
from vfs_ops.scans.plan import ScanPlan, ShardTask
from vfs_ops.scans.runners import Floors
from vfs_ops.scans.tasks import ScanJob, Scorer, ShardResult, merged

TASK_SECONDS: Final = 0.5
"""After which a task begins no other shard, so that partial results come out."""
SHARDS_OF_TASK: Final = 64
"""At most; of fast shards as many as take about `TASK_SECONDS`."""
TASKS_PER_THREAD: Final = 2
"""One that a thread of a worker runs, and one that it begins next without waiting for a message."""
LONELY_SECONDS: Final = 60.0
"""How long a scan waits for a cluster that has no worker."""
_MESSAGE_BYTES: Final = 4 << 20  # of queries in one message; Dask warns of messages above 10 MB
_LEAST_OF_TASK: Final = 0.1  # of TASK_SECONDS, for the last tasks
_LOOK_SECONDS: Final = 1.0  # between two looks at how many threads there are
_POLL_SECONDS: Final = 0.2


def run_on_cluster(
    client: Any,
    job: ScanJob,
    patterns: Sequence[Pattern],
    plan: ScanPlan,
    floors: Floors,
    stop: threading.Event,
) -> Generator[list[ShardResult]]:
    """Run all tasks on the workers of a `distributed.Client`; yields what has finished meanwhile.

    The queries are a task of their own, so that a worker gets them once, from another worker where
    there is one, and loses nothing when it dies. Tasks are handed over a few at a time, and no more
    than `plan.threads` if the caller chose that.

    Raises
    ------
    UnavailableError
        If the cluster has no workers for a while, or loses them at the same shard again and again.
    ClusterError
        If somebody of the cluster has not the libraries that are here.
    """
    from distributed import CancelledError, KilledWorker

    check_versions_once(client)
    finished: SimpleQueue[Any] = SimpleQueue()
    parts = list(_parts(patterns))
    alone = len(parts) == 1  # then they may travel with the job, and one task less is waited for
    shared = [] if alone else [client.submit(_unchanged, part, pure=False) for part in parts]
    scorer = client.submit(Scorer, job, *(parts if alone else shared), pure=False)
    shares = _Shares(client, plan)
    running: dict[str, tuple[Any, _Share]] = {}

    def submit() -> None:
        while (share := shares.next()) is not None:
            future = client.submit(
                run_task,
                scorer,
                share.tasks,
                tuple(floors()),
                workers=share.worker,
                allow_other_workers=share.worker is not None,
                pure=False,
            )
            running[future.key] = future, share
            future.add_done_callback(finished.put)

    try:
        submit()
        while running:
            futures = _next_finished(client, finished, stop)
            if stop.is_set():
                return
            given = [running.pop(future.key)[1] for future in futures]
            try:
                # together: each question to the scheduler costs some milliseconds
                found: list[list[ShardResult]] = client.gather(futures)
            except KilledWorker as error:
                raise UnavailableError(
                    f"workers were lost again and again while they scanned a shard ({error}); "
                    "give them more memory, or see their logs"
                ) from error
            except CancelledError as error:
                raise UnavailableError(
                    f"the cluster gave up a task of the scan ({error}); search again"
                ) from error
            for share, results in zip(given, found, strict=True):
                shares.learn(share, results)
            submit()
            yield [result for results in found for result in results]
    finally:
        client.cancel([*(future for future, _ in running.values()), scorer, *shared])


@dataclass(frozen=True)
class _Share:
    """What a task is to do, and the worker that should."""

    tasks: list[ShardTask]
    worker: str | None
    """Its address; None while there is none."""


class _Shares:
    """Cuts the shards of a scan into tasks, and spreads them over the workers.

    Each task gets two thirds of a thread's share of what is left, but no more than take about
    `TASK_SECONDS`, nor much less: so there are few tasks, and all threads end together. Each
    worker gets another when it has done one. Dask would prefer those that hold the queries already.
    """

    def __init__(self, client: Any, plan: ScanPlan) -> None:
        self._client = client
        self._limit = plan.threads if plan.limited else None
        self._waiting = list(reversed(plan.tasks))
        self._running: Counter[str | None] = Counter()
        self._threads: dict[str | None, int] = {}
        self._looked = -math.inf
        self._done, self._taken = 0, 0.0

    def next(self) -> _Share | None:
        """Return what another task is to do beside those that run; None if nothing, for now."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._threads, self._looked = self._client.nthreads() or {None: 1}, time.monotonic()
        if not self._waiting:
            return None
        if self._limit is not None and self._running.total() >= self._limit:
            return None
        worker = min(self._threads, key=lambda one: self._running[one] / self._threads[one])
        if self._running[worker] >= TASKS_PER_THREAD * self._threads[worker]:
            return None
        self._running[worker] += 1
        return _Share([self._waiting.pop() for _ in range(self._count())], worker)

    def _count(self) -> int:
        threads = sum(self._threads.values())
        share = len(self._waiting) * 2 / 3 / min(threads, self._limit or threads)
        if self._taken:
            fit = TASK_SECONDS * self._done / self._taken
            share = min(fit, max(fit * _LEAST_OF_TASK, share))
        return min(max(1, math.ceil(share)), SHARDS_OF_TASK, len(self._waiting))

    def learn(self, share: _Share, results: Sequence[ShardResult]) -> None:
        """Take back what a task has not begun, and see how long a shard takes."""
        self._running[share.worker] -= 1
        self._waiting += reversed(share.tasks[len(results) :])
        self._done += len(results)
        self._taken += sum(one.cost.reading + one.cost.decoding + one.scoring for one in results)


def run_task(
    scorer: Scorer, tasks: Sequence[ShardTask], floors: Sequence[float]
) -> list[ShardResult]:
    """Run some tasks on a worker of a cluster, until the client gives the task up."""
    from distributed import get_worker

    worker = get_worker()
    every, key = worker.state.tasks, worker.get_current_task()

    def given_up() -> bool:
        task = every.get(key)
        return task is None or task.state == "cancelled"

    return score_in_turn(scorer, tasks, floors, given_up)


def score_in_turn(
    scorer: Scorer,
    tasks: Sequence[ShardTask],
    floors: Sequence[float],
    cancelled: Callable[[], bool] = lambda: False,
) -> list[ShardResult]:
    """Score shards one after the other, with one thread, for about `TASK_SECONDS`.

    What has been found is what the next ones must reach. The results are those of the first
    shards, of one at least, unless `cancelled` says that none is wanted. What is found stands in
    the last of them, or in each where every image's is kept.
    """
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    end, results, least = time.monotonic() + TASK_SECONDS, [], floors
    nothing = best = tuple(Best.empty() for _ in floors)

    def lowest() -> Sequence[float]:
        return least

    for task in tasks:
        result = scorer.run(task, lowest, cancelled)
        if result is None:
            break
        if scorer.k is not None:
            best = merged(best, result.best, scorer.k)
            own = (found.floor(scorer.k) for found in best)
            least = [max(one, another) for one, another in zip(floors, own, strict=True)]
            result = replace(result, best=nothing)
        results.append(result)
        if time.monotonic() >= end:
            break
    if results and scorer.k is not None:
        results[-1] = replace(results[-1], best=best)
    return results


def _next_finished(client: Any, finished: SimpleQueue[Any], stop: threading.Event) -> list[Any]:
    """Wait for a task to finish; returns it and all others that have."""
    lonely_since = time.monotonic()
    while not stop.is_set():
        try:
            futures = [finished.get(timeout=_POLL_SECONDS)]
        except Empty:
            if client.nthreads():
                lonely_since = time.monotonic()
            elif time.monotonic() - lonely_since > LONELY_SECONDS:
                raise UnavailableError(
                    f"the cluster has had no worker for {LONELY_SECONDS:.0f} s; start some, or "
                    "search without it"
                ) from None
            continue
        with contextlib.suppress(Empty):
            while True:
                futures.append(finished.get_nowait())
        return futures
    return []


def _parts(patterns: Sequence[Pattern]) -> Iterator[list[Pattern]]:
    part: list[Pattern] = []
    size = 0
    for pattern in patterns:
        if part and size + pattern.products.nbytes > _MESSAGE_BYTES:
            yield part
            part, size = [], 0
        part.append(pattern)
        size += pattern.products.nbytes
    yield part


def _unchanged(part: list[Pattern]) -> list[Pattern]:
    return part
