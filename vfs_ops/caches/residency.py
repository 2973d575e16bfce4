"""A cache in memory: searching it again reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import psutil
from numpy.typing import NDArray

from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shard_sources import ReadCost, Scratch, ShardArrays
from vfs_ops.errors import QueryError
from vfs_ops.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache

LOADING_THREADS: Final = 4
"""Shards that are read at once while a cache is loaded."""
_FREE_SHARE: Final = 0.9
"""Which part of the free memory a cache may take: searching needs some, too."""


@dataclass(frozen=True, eq=False, repr=False)
class ResidentShards:
    """A `vfs_ops.caches.shard_sources.ShardSource` that holds all shards of a cache in memory."""

    shards: Mapping[int, ShardArrays]
    """By number."""

    def __repr__(self) -> str:
        return f"<ResidentShards: {len(self.shards)} shards, {self.nbytes / 2**20:.0f} MiB>"

    @property
    def nbytes(self) -> int:
        """Bytes of all features and norms, in all forms that are held."""
        blocks = [held.block for held in self.shards.values()]
        return sum(block.nbytes for block in blocks if block is not None)

    def read(
        self, receipt: Receipt, wanted: NDArray[np.intp] | None, scratch: Scratch | None
    ) -> ShardArrays:
        """Return the whole shard, whatever is wanted of it; nothing is read."""
        return self.shards[receipt.shard]

    def read_features(self, receipt: Receipt, wanted: NDArray[np.intp]) -> NDArray[np.floating]:
        """Return a copy of some rows' feature maps."""
        return self.shards[receipt.shard].features[wanted]


def resident_bytes(cache: Cache) -> int:
    """Return how much memory `load` needs for a cache."""
    from vfs_ops.kernel.compact import compact_bytes

    images, cells = cache.plan.images, cache.grid[0] * cache.grid[1]
    stored = images * (cache.plan.image_bytes + 4 * cells)
    return stored + compact_bytes(images, cells, cache.channels) + cache.dataset.manifest.size


def load(cache: Cache, progress: ProgressCallback) -> Cache:
    """Read a cache into memory, in the form that is searched fastest.

    Parameters
    ----------
    cache
        What to read. It is not changed.
    progress
        Told how many shards are there.

    Returns
    -------
    Cache
        The same cache; features, norms, labels and metadata come from memory.

    Raises
    ------
    QueryError
        If it does not fit; the message says how much it needs and how much there is.
    DamagedError
        If a shard is not as it was written.
    """
    from vfs_ops.kernel.blocks import Block

    needed, free = resident_bytes(cache), int(psutil.virtual_memory().available)
    if needed > _FREE_SHARE * free:
        raise QueryError(
            f"cache {cache.id[:12]} needs {needed / 2**30:.2f} GiB of memory and "
            f"{free / 2**30:.2f} GiB are free, of which a tenth is left to the search; search it "
            "where it lies, or keep copies on disk with cached_locally()"
        )
    if cache.resident:
        return cache
    total, shards = len(cache.receipts), {}

    def read(receipt: Receipt) -> ShardArrays:
        arrays = cache.source.read(receipt, None, None)
        block = Block.of(arrays.features, arrays.sq_norm).resident()
        return replace(arrays, cost=ReadCost(), block=block)

    progress(Progress("load", 0, total, "shards"))
    pool = ThreadPoolExecutor(LOADING_THREADS, thread_name_prefix="vfs-load")
    try:
        for receipt, arrays in zip(cache.receipts, pool.map(read, cache.receipts), strict=True):
            shards[receipt.shard] = arrays
            progress(Progress("load", len(shards), total, "shards"))
    finally:
        pool.shutdown(cancel_futures=True)
    dataset = replace(cache.dataset, manifest=cache.dataset.manifest.loaded())
    return replace(cache, source=ResidentShards(shards), dataset=dataset)
