"""The plan of a scan: which shards are read, how, and for which rows. Made before anything is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from vfs_ops.caches.cache import Cache
from vfs_ops.caches.cache_reading import is_read_in_ranges, ranged_cost
from vfs_ops.caches.local_copies import LocalCopies
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shard_sources import norm_bytes
from vfs_ops.caches.shards import decoded_bytes
from vfs_ops.datasets.predicates import Filters
from vfs_ops.errors import IncompleteError, QueryError
from vfs_ops.scans.clusters import cluster_of, threads_of
from vfs_ops.scans.options import check_whole
from vfs_ops.scans.queries import Query
from vfs_ops.store.urls import REMOTE_PROTOCOLS

DEFAULT_THREADS: Final = max(2, int(CPU_COUNT))
"""Shards that are read and scored at once by default, if they are on local disk or in memory."""
READ_AHEAD: Final = 2
"""Shards that are on their way from a remote store beside those by default: a connection that
waits for its thread to score brings nothing."""
_PROPOSED_BYTES: Final = 24
"""Known of an image for each query: three numbers of four bytes, by block and of the shard."""


@dataclass(frozen=True, eq=False)
class ShardTask:
    """What is read of one shard, and which of its rows are compared."""

    receipt: Receipt
    wanted: NDArray[np.intp] | None
    """Rows counted from the shard's first, ascending; None for all that are valid."""
    groups: NDArray[np.int64] | None
    """Which group each row of the shard is of; None where each image stands for itself."""
    whole: bool
    """Whether the shard is read whole, or the chunks of the wanted rows by ranged reads."""
    bytes: int
    """Features and norms that are fetched; of a compressed shard read in ranges, about."""

    @property
    def images(self) -> int:
        """How many images are compared."""
        count = self.receipt.stop - self.receipt.start - len(self.receipt.invalid)
        return count if self.wanted is None else len(self.wanted)


@dataclass(frozen=True, eq=False)
class ScanPlan:
    """The shards that a search reads, in order. Printed, it says what the search will cost."""

    cache: str
    """Cache id."""
    tasks: tuple[ShardTask, ...]
    """One per shard of which anything is compared."""
    missing: tuple[int, ...]
    """Shards that are not there, of which images would be compared."""
    threads: int
    """Shards in memory at once."""
    shard_bytes: int
    """Most that one shard takes in memory, or what is read of it: as it is stored, twice where a
    client puts it together, as decoded if it is compressed or read in ranges, and its norms."""
    kernel_bytes: int
    """Most that the kernel takes beside it in each thread; 0 of a plan without queries."""
    query_bytes: int
    """Most that the queries take, which all threads share; each worker of a cluster has them."""
    limited: bool
    """Whether the caller chose `threads`; else a cluster uses what workers come, too."""

    @property
    def memory_bytes(self) -> int:
        """Bound on the memory that the search of a stored cache takes while it reads and scores.

        On a cluster, that of all workers together, but for the queries, which each has. A cache in
        memory is scored many shards at a time, which may take more for many queries.
        """
        return self.threads * (self.shard_bytes + self.kernel_bytes) + self.query_bytes

    @property
    def images(self) -> int:
        """How many images are compared."""
        return sum(task.images for task in self.tasks)

    @property
    def bytes(self) -> int:
        """Bytes to fetch, if none of them is in memory or copied to local disk."""
        return sum(task.bytes for task in self.tasks)

    @property
    def ranged(self) -> int:
        """How many shards are read in ranges."""
        return sum(not task.whole for task in self.tasks)

    def is_compared(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of some rows of the dataset, in any order, are compared; shape (row,)."""
        tasks = sorted(self.tasks, key=lambda task: task.receipt.start)
        starts = np.array([task.receipt.start for task in tasks])
        at = np.searchsorted(starts, rows, side="right") - 1
        compared = np.zeros(len(rows), np.bool_)
        for number in np.unique(at[at >= 0]).tolist():
            task, places = tasks[number], np.flatnonzero(at == number)
            invalid = [row for row, _ in task.receipt.invalid]
            here, size = rows[places] - task.receipt.start, task.receipt.stop - task.receipt.start
            allowed = (here < size) & ~np.isin(rows[places], invalid)
            if task.wanted is not None:
                allowed &= np.isin(here, task.wanted)
            compared[places] = allowed
        return compared

    def __repr__(self) -> str:
        gone = f", {len(self.missing)} shards missing" if self.missing else ""
        return (
            f"<ScanPlan: {self.images} images of cache {self.cache[:12]} in {len(self.tasks)} "
            f"shards ({self.ranged} by ranged reads), {self.bytes / 2**20:.1f} MiB{gone}; "
            f"{self.threads} at once take at most {self.memory_bytes / 2**20:.0f} MiB>"
        )


def plan_scan(
    cache: Cache,
    *,
    where: Filters | None = None,
    rows: NDArray[np.bool_] | None = None,
    unique_by: str | None = None,
    threads: int | None = None,
    allow_partial: bool = False,
    queries: Sequence[Query] = (),
    client: Any = None,
) -> ScanPlan:
    """Decide what a search of a cache reads.

    Parameters
    ----------
    cache
        What to search.
    where
        Compare only images whose metadata match; see `vfs_ops.datasets.predicates`.
    rows
        Compare only these images: bool of shape (image,). All if not given.
    unique_by
        Column of which each value may give one hit at most.
    threads
        Shards that are read and scored at once, on a cluster by all workers together. If not given,
        the threads of the cluster's workers, or else `DEFAULT_THREADS`, and `READ_AHEAD` more where
        the store is remote.
    allow_partial
        Plan for the shards that are there, if some are missing.
    queries
        What will be searched for, to tell the memory that scoring takes, too.
    client
        A `distributed.Client` on whose workers to search; see `vfs_ops.scans.clusters.cluster_of`.

    Raises
    ------
    QueryError
        If an option cannot be used, or no image is left to search.
    PredicateError
        If `where` is malformed.
    IncompleteError
        If shards are missing that would be read, and `allow_partial` is not given.

    Examples
    --------
    >>> plan_scan(cache, where=[("label", "==", "cat")])  # doctest: +SKIP
    <ScanPlan: 3100 images of cache 3f29a1c0d4be in 98 shards (41 by ranged reads), 1320.5 MiB; …>
    """
    cluster = cluster_of(cache, client)
    if threads is not None:
        at_once = check_whole("threads", threads)
    else:
        at_once = default_threads(cache) if cluster is None else threads_of(cluster)
    allowed = cache.dataset.where(where)
    matching = int(allowed.sum())
    if rows is not None:
        allowed &= rows
    allowed[list(cache.invalid)] = False
    if not matching:
        raise QueryError(
            f"no image is left to search: none of {cache.count} matches the filter; widen it"
        )
    if not allowed.any():
        chosen = "" if rows is None else "the query's own image and "
        other = "" if rows is None else ", or give exclude_query_image=False"
        raise QueryError(
            f"no image is left to search: {matching} of {cache.count} match the filter, and "
            f"{chosen}{len(cache.invalid)} without features are left out; widen the filter{other}"
        )
    missing = tuple(s for s in cache.missing_shards if allowed[_slice(cache, s)].any())
    if missing and not allow_partial:
        raise IncompleteError(
            f"cache {cache.id[:12]} lacks {len(missing)} of {cache.shard_count} shards; build it "
            "again to compute them, or give allow_partial=True to search the others"
        )
    tasks = tuple(_tasks(cache, allowed, _groups(cache, unique_by)))
    if not tasks:
        raise IncompleteError(
            f"cache {cache.id[:12]} has none of the shards to search; build it again"
        )
    shard = 0 if cache.resident else max(map(partial(_shard_bytes, cache), tasks))
    return ScanPlan(
        cache=cache.id,
        tasks=tasks,
        missing=missing,
        threads=at_once,
        shard_bytes=shard,
        kernel_bytes=_kernel_bytes(cache, queries),
        query_bytes=_query_bytes(cache, queries),
        limited=threads is not None,
    )


def default_threads(cache: Cache) -> int:
    """Return how many shards of a cache this process reads and scores at once if nobody says."""
    remote = not cache.resident and cache.workspace.protocol in REMOTE_PROTOCOLS
    return DEFAULT_THREADS + READ_AHEAD if remote else DEFAULT_THREADS


def _shard_bytes(cache: Cache, task: ShardTask) -> int:
    plan, remote = cache.plan, cache.workspace.protocol in REMOTE_PROTOCOLS
    copied = isinstance(cache.source, LocalCopies)
    decoded = 0 if plan.codec == "none" else decoded_bytes(plan)
    norms = norm_bytes(plan)
    whole = (1 + remote + (remote and copied)) * (task.receipt.feature_bytes + norms) + decoded
    if task.whole or task.wanted is None:
        return whole
    chunks = len(np.unique(task.wanted // plan.images_per_chunk))
    ranges = (1 + remote) * task.bytes + chunks * plan.images_per_chunk * plan.image_bytes + norms
    return max(ranges, whole) if copied else ranges  # a copy is read whole


def _kernel_bytes(cache: Cache, queries: Sequence[Query]) -> int:
    from vfs_ops.kernel.scoring import scratch_bytes

    if not queries:
        return 0
    proposed = _PROPOSED_BYTES * len(queries) * cache.plan.images_per_shard
    return scratch_bytes(cache.grid, cache.channels, len(queries)) + proposed


def _query_bytes(cache: Cache, queries: Sequence[Query]) -> int:
    from vfs_ops.kernel.batches import batch_bytes

    return batch_bytes([query.pattern for query in queries], cache.grid)


def _tasks(
    cache: Cache, allowed: NDArray[np.bool_], groups: NDArray[np.int64] | None
) -> Iterator[ShardTask]:
    for receipt in cache.receipts:
        here = slice(receipt.start, receipt.stop)
        chosen = np.flatnonzero(allowed[here])
        if not len(chosen):
            continue
        everything = len(chosen) + len(receipt.invalid) == receipt.stop - receipt.start
        wanted = None if everything else chosen
        size, whole = receipt.feature_bytes, True
        if wanted is not None and is_read_in_ranges(cache.workspace, cache.plan, receipt, wanted):
            size, whole = ranged_cost(cache.workspace, cache.plan, receipt, wanted)[0], False
        group = None if groups is None else groups[here]
        yield ShardTask(receipt, wanted, group, whole, size + norm_bytes(cache.plan))


def _slice(cache: Cache, shard: int) -> slice:
    rows = cache.shard_rows(shard)
    return slice(rows.start, rows.stop)


def _groups(cache: Cache, unique_by: str | None) -> NDArray[np.int64] | None:
    """Return which group each image is of, shape (image,); a group gives one hit at most."""
    if unique_by is None:
        return None
    images, names = np.arange(cache.count), cache.dataset.column_names()
    if unique_by not in names:
        useful = ["uri", "label", "width", "height", *cache.dataset.manifest.metadata_columns]
        raise QueryError(f"unique_by is {unique_by!r}; expected one of {', '.join(useful)}")
    column = cache.dataset.table([unique_by])[unique_by].combine_chunks()
    if pa.types.is_nested(column.type):
        raise QueryError(
            f"unique_by is {unique_by!r}, a column of lists; expected one of single values"
        )
    encoded = pc.dictionary_encode(column)
    values = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.where(values < 0, len(encoded.dictionary) + images, values)
