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

from vfs_ops import blocks
from vfs_ops.batches import Batch
from vfs_ops.blocks import Block, Part
from vfs_ops.errors import IncompleteError
from vfs_ops.exact import Pattern
from vfs_ops.scan_plan import ShardTask
from vfs_ops.scoring import best_of_parts
from vfs_ops.shard_sources import ReadCost, Scratch, ShardArrays, ShardSource
from vfs_ops.topk import Best, best_of


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
    """Seconds of one thread."""
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
        self._own = np.unique(np.concatenate([np.empty(0, np.int64), *job.own]))
        self._of_thread = threading.local()

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
        try:
            arrays = self._job.source.read(
                task.receipt, None if task.whole else task.wanted, self._scratch()
            )
        except IncompleteError:
            if not self._job.allow_partial:
                raise
            nothing = tuple(Best.empty() for _ in self._batch.patterns)
            return ShardResult(task.receipt.shard, 0, nothing, ReadCost(), 0.0, missing=True)
        if cancelled():
            return None
        started = time.perf_counter()
        rows = np.flatnonzero(arrays.valid)
        if task.wanted is not None:
            rows = rows[np.isin(arrays.rows[rows], task.wanted)]
        best = self._score(task, arrays, rows, floors())
        scoring = time.perf_counter() - started
        return ShardResult(task.receipt.shard, len(rows), best, arrays.cost, scoring, missing=False)

    def _score(
        self, task: ShardTask, arrays: ShardArrays, rows: NDArray[np.intp], floors: Sequence[float]
    ) -> tuple[Best, ...]:
        """Return each query's best windows, none of its own images.

        All queries are compared with the same rows. An image that is the own one of some query
        first stands for itself, and as many more windows are kept as there are such images; then
        each query drops its own, and the images return to their groups. So no query's own image
        hides another of its group.
        """
        images = task.receipt.start + arrays.rows
        groups = images if task.groups is None else task.groups[arrays.rows]
        own = np.isin(images, self._own)
        apart = np.where(own, -1 - images, groups) if own.any() else groups
        limit = len(rows) if self._job.k is None else self._job.k
        allowed = np.zeros(len(images), np.bool_)
        allowed[rows] = True
        block = arrays.block or Block.of(arrays.features, arrays.sq_norm)
        found = best_of_parts(
            self._batch,
            [Part(block, images, apart, allowed)],
            limit + int(own[rows].sum()),
            np.array(floors, np.float64),
            self._buffers(),
        )
        if not own.any():
            return tuple(found)
        return tuple(
            best_of([_without(best, left_out, images, groups)], limit)
            for best, left_out in zip(found, self._job.own, strict=True)
        )

    def _buffers(self) -> blocks.Scratch:
        if not hasattr(self._of_thread, "buffers"):
            self._of_thread.buffers = blocks.Scratch()
        buffers: blocks.Scratch = self._of_thread.buffers
        return buffers

    def _scratch(self) -> Scratch:
        if not hasattr(self._of_thread, "scratch"):
            self._of_thread.scratch = Scratch()
        scratch: Scratch = self._of_thread.scratch
        return scratch


def _without(
    best: Best, left_out: NDArray[np.int64], images: NDArray[np.int64], groups: NDArray[np.int64]
) -> Best:
    """Drop some images, and give the others back their groups."""
    kept = ~np.isin(best.image, left_out)
    group = groups[np.searchsorted(images, best.image[kept])]
    return Best(best.score[kept], best.image[kept], best.y[kept], best.x[kept], group)


def run_task(scorer: Scorer, task: ShardTask, floors: Sequence[float]) -> ShardResult | None:
    """Run a task on a worker of a cluster, where each of its threads computes with one."""
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    return scorer.run(task, lambda: floors)
