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
    import torch

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
    device: str
    """What searches them, such as "cpu" or "cuda:0"."""

    def __repr__(self) -> str:
        return f"<ResidentShards: {self.summary}>"

    @property
    def summary(self) -> str:
        """How many there are, in which form, how large, and what searches them."""
        blocks = [held.block for held in self.shards.values() if held.block is not None]
        form = ", with an int8 form" if any(block.tiles for block in blocks) else ""
        size = f"{self.nbytes / 2**20:.0f} MiB"
        return f"{len(self.shards)} shards, {size} in memory{form}, searched by {self.device}"

    @property
    def nbytes(self) -> int:
        """Bytes of all features and norms, in all forms that are held, here and on a GPU."""
        size = 0
        for held in self.shards.values():
            if held.block is not None:
                size += held.block.nbytes
                if held.block.features.device.type != "cpu":
                    size += held.features.nbytes + held.sq_norm.nbytes
        return size

    def read(
        self, receipt: Receipt, wanted: NDArray[np.intp] | None, scratch: Scratch | None
    ) -> ShardArrays:
        """Return the whole shard, whatever is wanted of it; nothing is read."""
        return self.shards[receipt.shard]

    def read_features(self, receipt: Receipt, wanted: NDArray[np.intp]) -> NDArray[np.floating]:
        """Return a copy of some rows' feature maps."""
        return self.shards[receipt.shard].features[wanted]


def resident_bytes(cache: Cache) -> int:
    """Return how much memory `load` needs for a cache that is searched by the processor."""
    from vfs_ops.kernel.compact import compact_bytes

    cells = cache.grid[0] * cache.grid[1]
    compact = compact_bytes(cache.plan.images, cells, cache.channels)
    return _stored_bytes(cache) + compact + cache.dataset.manifest.loaded_bytes


def load(cache: Cache, progress: ProgressCallback, device: str | None = None) -> Cache:
    """Read a cache into memory, in the form that is searched fastest.

    Parameters
    ----------
    cache
        What to read. It is not changed.
    progress
        Told how many shards are there.
    device
        What will search it: "cpu", "cuda" or "cuda:1"; the first GPU, or else the processor, if
        None. For a GPU, features and norms are copied into its memory; what is read of single
        images still comes from this process's.

    Returns
    -------
    Cache
        The same cache; features, norms, labels and metadata come from memory.

    Raises
    ------
    ModelError
        If there is no such device here.
    QueryError
        If it does not fit; the message says how much it needs and how much there is. Or if the
        device cannot compute in float64.
    DamagedError
        If a shard is not as it was written.
    """
    from vfs_ops.kernel.blocks import Block
    from vfs_ops.models.forward import choose_device

    chosen = _numbered(choose_device(device))
    if isinstance(cache.source, ResidentShards) and cache.source.device == str(chosen):
        return cache
    _check_room(cache, chosen)
    total, shards = len(cache.receipts), {}

    def read(receipt: Receipt) -> ShardArrays:
        arrays = cache.source.read(receipt, None, None)
        block = Block.of(arrays.features, arrays.sq_norm, device=chosen).resident()
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
    receipts = tuple(cache.receipts)  # made once
    source = ResidentShards(shards, str(chosen))
    return replace(cache, receipts=receipts, source=source, dataset=dataset)


def _numbered(device: torch.device) -> torch.device:
    """Return a GPU by its number, which "cuda" alone leaves open."""
    import torch

    if device != torch.device("cuda"):
        return device
    return torch.device("cuda", torch.cuda.current_device())


def _stored_bytes(cache: Cache) -> int:
    """Return the size of features and norms."""
    return cache.plan.images * (cache.plan.image_bytes + 4 * cache.grid[0] * cache.grid[1])


def _check_room(cache: Cache, device: torch.device) -> None:
    """Refuse a cache that is larger than the memory that is free, here or on a GPU."""
    needed = {"memory": (resident_bytes(cache), int(psutil.virtual_memory().available))}
    if device.type == "cuda":
        import torch

        stored = _stored_bytes(cache)
        needed["memory"] = stored + cache.dataset.manifest.loaded_bytes, needed["memory"][1]
        needed[f"the memory of {device}"] = stored, int(torch.cuda.mem_get_info(device)[0])
    elif device.type != "cpu":
        raise QueryError(
            f"{device} does not compute in float64, which decides; expected cpu or cuda"
        )
    for where, (bytes_needed, free) in needed.items():
        if bytes_needed > _FREE_SHARE * free:
            raise QueryError(
                f"cache {cache.id[:12]} needs {bytes_needed / 2**30:.2f} GiB of {where} and "
                f"{free / 2**30:.2f} GiB are free, of which a tenth is left to the search; search "
                "it where it lies, or keep copies on disk with cached_locally()"
            )
