"""Running the tasks of a scan in this process: on Dask's threads, or of a cache in memory.

Results come as tasks finish, in any order; the merge does not care (`vfs_ops.kernel.topk.best_of`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final

import torch

from vfs_ops.kernel.exact import Pattern
from vfs_ops.scans.plan import ScanPlan, ShardTask
from vfs_ops.scans.tasks import ScanJob, Scorer, ShardResult

Floors = Callable[[], Sequence[float]]

SHARDS_TOGETHER: Final = 64
"""Shards in memory that are scored in one call: enough for the kernel to choose well what it
scores exactly."""
SCORED_TOGETHER: Final = 8192
"""Shards times queries in one call, at most: partial results of a long search then come out every
few seconds, and what is spent on each query in each call matters little."""

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
