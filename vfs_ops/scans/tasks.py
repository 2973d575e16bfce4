"""What one task of a scan does: read a shard, decode it, score it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vfs_ops.caches.shard_sources import ReadCost, Scratch, ShardArrays, ShardSource
from vfs_ops.errors import IncompleteError
from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Block, Part
from vfs_ops.kernel.blocks import Scratch as Buffers
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.scoring import best_of_parts, best_scores
from vfs_ops.kernel.topk import Best, best_of
from vfs_ops.scans.plan import ShardTask
from vfs_ops.store.traffic import counting


@dataclass(frozen=True, eq=False)
class ScanJob:
    """What all tasks of a scan share, but for the queries; sent to each worker once."""

    source: ShardSource
    """Where shards are read."""
    grid: tuple[int, int]
    k: int | None
    """How many hits of each query are kept; None to keep the best window of every image."""
    own: tuple[NDArray[np.int64], ...]
    """For each query, the rows that it must not find, ascending."""
    allow_partial: bool
    """Go on without a shard that is not there."""


@dataclass(frozen=True, eq=False)
class ShardResult:
    """What one task found, and what it took."""

    shard: int
    images: int
    """Images that were compared."""
    best: tuple[Best, ...]
    """For each query, its best windows in this shard."""
    cost: ReadCost
    scoring: float
    """Seconds of one thread; of shards scored together, each its share of the call's."""
    device: str
    """What scored."""
    missing: bool
    """The shard is not there; nothing was compared."""


class Scorer:
    """The queries of a scan made ready, and what its threads reuse. Pickles as what it is made of.

    Parameters
    ----------
    job
        What all tasks share.
    patterns
        The queries, in parts, so that no message to a worker is large.
    """

    def __init__(self, job: ScanJob, *patterns: Sequence[Pattern]) -> None:
        self._made_of = (job, *patterns)
        self._job = job
        self._batch = Batch.of([pattern for part in patterns for pattern in part], job.grid)
        rows = np.concatenate(job.own)
        order = np.argsort(rows)
        self._own_rows = rows[order]
        self._own_queries = np.repeat(np.arange(len(job.own)), [*map(len, job.own)])[order]
        self._of_thread = threading.local()
        self.k = job.k
        """How many windows of each query are kept; None for the best of every image."""
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        """What scores on this machine."""

    def __reduce__(self) -> tuple[type[Scorer], tuple[Any, ...]]:
        return Scorer, self._made_of

    def run(
        self,
        task: ShardTask,
        floors: Callable[[], Sequence[float]],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ShardResult | None:
        """Read and score one shard.

        Parameters
        ----------
        task
            Which.
        floors
            Asked for when the shard is there: a score for each query that a window must reach to
            be of any use. It saves work and changes no answer.
        cancelled
            Asked before each step; None is returned once it says so.

        Raises
        ------
        IncompleteError
            If the shard is not there, unless the job allows that.
        DamagedError, AccessError, UnavailableError, StorageError
            If it cannot be read.
        """
        if cancelled():
            return None
        scratch, buffers = self._reused()
        shard, wanted = task.receipt.shard, None if task.whole else task.wanted
        begun = time.perf_counter()
        with counting() as traffic:
            try:
                arrays = self._job.source.read(task.receipt, wanted, scratch)
            except IncompleteError:
                if not self._job.allow_partial:
                    raise
                waited = time.perf_counter() - begun
                cost = ReadCost(traffic.requests, traffic.bytes_read, waited)
                nothing = tuple(Best.empty() for _ in self._batch.patterns)
                return ShardResult(shard, 0, nothing, cost, 0.0, self.device, missing=True)
        if cancelled():
            return None
        started = time.perf_counter()
        part, images = self._part(task, arrays)
        if self.k is None:
            best = _best_of_images(self._batch, part, buffers, cancelled)
        else:
            least = np.asarray(floors(), np.float64)
            found = best_of_parts(self._batch, [part], self.k, least, buffers, cancelled)
            best = tuple(found)
        if cancelled():
            return None
        scoring = time.perf_counter() - started
        return ShardResult(shard, images, best, arrays.cost, scoring, self.device, missing=False)

    def run_together(
        self,
        tasks: Sequence[ShardTask],
        floors: Sequence[float],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[ShardResult]:
        """Score shards that lie in memory, all together, which costs less than one by one.

        The kernel uses as many threads as torch is allowed. What is found stands in the result of
        the last shard, or of each where every image's is kept. Once `cancelled` says so, no shard
        is begun, and none is returned.
        """
        started = time.perf_counter()
        read = [self._job.source.read(task.receipt, None, None) for task in tasks]
        parts, counts = zip(*map(self._part, tasks, read), strict=True)
        buffers = self._reused()[1]
        if self.k is None:
            found = [_best_of_images(self._batch, part, buffers, cancelled) for part in parts]
        else:
            least = np.asarray(floors, np.float64)
            best = best_of_parts(self._batch, parts, self.k, least, buffers, cancelled)
            nothing = tuple(Best.empty() for _ in best)
            found = [*[nothing] * (len(tasks) - 1), tuple(best)]
        if cancelled():
            return []
        share = (time.perf_counter() - started) / len(tasks)
        device = parts[0].block.kind[1].type  # where they were loaded to
        return [
            ShardResult(task.receipt.shard, count, one, ReadCost(), share, device, missing=False)
            for task, count, one in zip(tasks, counts, found, strict=True)
        ]

    def _part(self, task: ShardTask, arrays: ShardArrays) -> tuple[Part, int]:
        """Return a shard with what each query may find in it, and how many images any may."""
        images = task.receipt.start + arrays.rows
        allowed = arrays.valid
        if task.wanted is not None:
            allowed = allowed & np.isin(arrays.rows, task.wanted)
        count = int(allowed.sum())
        own = slice(*np.searchsorted(self._own_rows, (task.receipt.start, task.receipt.stop)))
        if own.start < own.stop:
            allowed = np.tile(allowed, (len(self._job.own), 1))
            queries, rows = self._own_queries[own], self._own_rows[own]
            place = np.searchsorted(images, rows).clip(max=len(images) - 1)
            here = images[place] == rows
            allowed[queries[here], place[here]] = False
        groups = images if task.groups is None else task.groups[arrays.rows]
        block = arrays.block or Block.of(arrays.features, arrays.sq_norm, device=self.device)
        return Part(block, images, groups, allowed), count

    def _reused(self) -> tuple[Scratch, Buffers]:
        """Return the memory of this thread."""
        if not hasattr(self._of_thread, "memory"):
            self._of_thread.memory = Scratch(), Buffers()
        memory: tuple[Scratch, Buffers] = self._of_thread.memory
        return memory


def _best_of_images(
    batch: Batch, part: Part, buffers: Buffers, cancelled: Callable[[], bool]
) -> tuple[Best, ...]:
    """Return the best window of every image, for each query."""
    found = []
    for score, y, x in zip(*best_scores(batch, part, buffers, cancelled), strict=True):
        rows = np.flatnonzero(~np.isnan(score))
        found.append(Best(score[rows], part.images[rows], y[rows], x[rows], part.groups[rows]))
    return tuple(found)


def merged(known: Sequence[Best], found: Sequence[Best], k: int) -> tuple[Best, ...]:
    """Return the best `k` windows of each query of two parts of a scan."""
    return tuple(
        best_of([one, another], k) if len(one) and len(another) else one or another
        for one, another in zip(known, found, strict=True)
    )
