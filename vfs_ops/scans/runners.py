"""Running the tasks of a scan with Dask: on threads of this process, or on a cluster.

Results come as tasks finish, in any order; the merge does not care (`vfs_ops.kernel.topk.best_of`).
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

import torch

from vfs_ops.errors import UnavailableError
from vfs_ops.kernel.exact import Pattern
from vfs_ops.scans.clusters import threads_of
from vfs_ops.scans.plan import ScanPlan, ShardTask
from vfs_ops.scans.tasks import ScanJob, Scorer, ShardResult, run_task

Floors = Callable[[], Sequence[float]]

TASKS_PER_THREAD: Final = 3
"""Tasks that wait at a cluster's scheduler for each thread of its workers. More would start from
older floors and take longer to cancel; fewer would leave threads idle between two."""
TASK_SECONDS: Final = 0.2
"""What a task of a cluster takes, about, as far as can be told from those that are done: it has so
many shards that its way through the scheduler, some milliseconds, matters little beside them."""
SHARDS_TOGETHER: Final = 64
"""Shards in memory that are scored in one call: enough for the kernel to choose well what it
scores exactly."""
SCORED_TOGETHER: Final = 2048
"""Shards times queries in one call, at most: it then takes some hundred milliseconds, so that
partial results of a long search come out."""
LONELY_SECONDS: Final = 60.0
"""How long a scan waits for a cluster that has no worker."""
_MESSAGE_BYTES: Final = 4 << 20  # of queries in one message; Dask warns of messages above 10 MB
_LEAST_OF_TASK: Final = 0.25  # of TASK_SECONDS, for the last tasks
_LOOK_SECONDS: Final = 1.0  # between two looks at how many threads there are
_POLL_SECONDS: Final = 0.2

_threads_lock = threading.Lock()
_threads_users = 0
_threads_before = 1


def run_on_threads(
    job: ScanJob, patterns: Sequence[Pattern], plan: ScanPlan, floors: Floors, stop: threading.Event
) -> Generator[list[ShardResult]]:
    """Run all tasks with Dask's threaded scheduler; yields what has finished meanwhile.

    Reading, decoding and scoring overlap, since each thread is at its own shard.

    Parameters
    ----------
    stop
        Once set, no shard is begun, and those that are being read are not scored.
    """
    import dask.threaded

    scorer = Scorer(job, patterns)
    finished: SimpleQueue[ShardResult | None] = SimpleQueue()

    def run(task: ShardTask) -> None:
        result = scorer.run(task, floors, stop.is_set)
        if result is not None:
            finished.put(result)

    def work() -> None:
        # Dask begins independent tasks in falling order of their keys; a disk likes rising shards
        keys = [f"scan-{number:08d}" for number in reversed(range(len(plan.tasks)))]
        graph = {key: (partial(run, task),) for key, task in zip(keys, plan.tasks, strict=True)}
        try:
            dask.threaded.get(graph, keys, pool=pool)
        except BaseException:
            stop.set()  # the other threads are at their shards still
            raise
        finally:
            finished.put(None)

    with (
        _torch_with_threads(),
        ThreadPoolExecutor(plan.threads, "vfs-scan", _compute_alone) as pool,
        ThreadPoolExecutor(1, "vfs-scan-scheduler") as scheduler,
    ):
        done = scheduler.submit(work)
        try:
            while (first := finished.get()) is not None:
                results, last = _drained(first, finished)
                yield results
                if last:
                    break
            done.result()
        finally:
            stop.set()


def _compute_alone() -> None:
    torch.get_num_threads()  # torch sets a thread's number when first asked, which is now
    torch.set_num_threads(1)


def _drained(
    first: ShardResult, finished: SimpleQueue[ShardResult | None]
) -> tuple[list[ShardResult], bool]:
    """Take what else has finished; tells whether that is all."""
    results = [first]
    with contextlib.suppress(Empty):
        while True:
            result = finished.get_nowait()
            if result is None:
                return results, True
            results.append(result)
    return results, False


def run_in_memory(
    job: ScanJob, patterns: Sequence[Pattern], plan: ScanPlan, floors: Floors, stop: threading.Event
) -> Generator[list[ShardResult]]:
    """Score all shards of a cache in memory, many in one call of the kernel.

    There is nothing to read that Dask could overlap with scoring, and the kernel has threads of
    its own: `plan.threads`. Where every image's best window is kept, shards are scored one by one:
    together they would take no less.

    Parameters
    ----------
    stop
        Once set, no other block is scored.
    """
    scorer = Scorer(job, patterns)
    most = 1 if job.k is None else SHARDS_TOGETHER
    together = max(1, min(most, SCORED_TOGETHER // len(patterns)))
    for start in range(0, len(plan.tasks), together):
        with _torch_with_threads():
            torch.set_num_threads(plan.threads)
            some = plan.tasks[start : start + together]
            results = scorer.run_together(some, floors(), stop.is_set)
        if not results:
            return
        yield results


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
    than `plan.threads` if the caller chose that; each has the more shards the less these take, and
    the last ones few, so that all workers end together.

    Raises
    ------
    UnavailableError
        If the cluster has no workers for a while, or loses them at the same shard again and again.
    """
    from distributed import CancelledError, KilledWorker

    finished: SimpleQueue[Any] = SimpleQueue()
    parts = list(_parts(patterns))
    alone = len(parts) == 1  # then they may travel with the job, and one task less is waited for
    shared = [] if alone else [client.submit(_unchanged, part, pure=False) for part in parts]
    scorer = client.submit(Scorer, job, *(parts if alone else shared), pure=False)
    waiting: list[ShardTask] = list(reversed(plan.tasks))
    running: dict[str, Any] = {}
    done, taken, threads, looked = 0, 0.0, 1, -math.inf

    def submit() -> None:
        nonlocal threads, looked
        if time.monotonic() - looked >= _LOOK_SECONDS:
            threads, looked = threads_of(client), time.monotonic()
        most = plan.threads if plan.limited else TASKS_PER_THREAD * threads
        while waiting and len(running) < most:
            fit = TASK_SECONDS * done / taken if taken else 1
            together = min(fit, max(fit * _LEAST_OF_TASK, len(waiting) / 2 / threads))
            some = [waiting.pop() for _ in range(min(max(1, int(together)), len(waiting)))]
            future = client.submit(run_task, scorer, some, tuple(floors()), pure=False)
            running[future.key] = future
            future.add_done_callback(finished.put)

    try:
        submit()
        while running:
            futures = _next_finished(client, finished, stop)
            if stop.is_set():
                return
            for future in futures:
                del running[future.key]
            try:
                # together: each question to the scheduler costs some milliseconds
                results = [one for some in client.gather(futures) for one in some]
            except KilledWorker as error:
                raise UnavailableError(
                    f"workers were lost again and again while they scanned a shard ({error}); "
                    "give them more memory, or see their logs"
                ) from error
            except CancelledError as error:
                raise UnavailableError(
                    f"the cluster gave up a task of the scan ({error}); search again"
                ) from error
            done += len(results)
            taken += sum(one.cost.reading + one.cost.decoding + one.scoring for one in results)
            submit()
            yield results
    finally:
        client.cancel([*running.values(), scorer, *shared])


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


@contextlib.contextmanager
def _torch_with_threads() -> Iterator[None]:
    """Restore the number of torch's threads, which scans set, when the last of them ends."""
    global _threads_before, _threads_users
    with _threads_lock:
        if _threads_users == 0:
            _threads_before = torch.get_num_threads()
        _threads_users += 1
    try:
        yield
    finally:
        with _threads_lock:
            _threads_users -= 1
            if _threads_users == 0:
                torch.set_num_threads(_threads_before)
