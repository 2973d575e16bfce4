"""Where the shards of a cache are read from, and what is done with the bytes: all is checked.

A scan reads shards through a `ShardSource`: the store itself (`vfs_ops.caches.cache_reading`),
copies on local disk (`vfs_ops.caches.local_copies`), or memory (`vfs_ops.caches.residency`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vfs_ops.caches.layout import sha256
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shards import decode_features, decoded_bytes
from vfs_ops.errors import DamagedError, QueryError
from vfs_ops.store.concurrent_reads import in_threads

if TYPE_CHECKING:
    from vfs_ops.kernel.blocks import Block

Bytes = NDArray[np.uint8]

SHARDS_AT_ONCE: Final = 8
"""Shards of which a few rows are read together."""


@dataclass(frozen=True)
class ReadCost:
    """What reading took. Adds up."""

    requests: int = 0
    """Objects and ranges that were asked for of the store."""
    bytes: int = 0
    """Bytes that came from it."""
    reading: float = 0.0
    """Seconds in which a thread waited for them."""
    decoding: float = 0.0
    """Seconds in which a thread checked and decoded them."""

    def __add__(self, other: ReadCost) -> ReadCost:
        return ReadCost(
            self.requests + other.requests,
            self.bytes + other.bytes,
            self.reading + other.reading,
            self.decoding + other.decoding,
        )


@dataclass(frozen=True, eq=False)
class ShardArrays:
    """Rows of one shard in memory."""

    features: NDArray[np.floating]
    """Shape (image, y, x, channel), in the stored dtype; may be read-only."""
    sq_norm: NDArray[np.float32]
    """Shape (image, y, x)."""
    rows: NDArray[np.intp]
    """Which rows of the shard these are, counted from its first, ascending; shape (image,)."""
    valid: NDArray[np.bool_]
    """Shape (image,); false where an image can never be a hit."""
    cost: ReadCost
    block: Block | None = None
    """The same as the kernel takes it, in a form that is searched faster, if it is held so."""


class Scratch:
    """Memory that one thread reads shards into, again and again.

    Fresh memory costs more than the copy that fills it, since the system clears each page.
    """

    def __init__(self) -> None:
        self._memory: dict[str, Bytes] = {}

    def memory(self, name: str, size: int) -> Bytes:
        """Return `size` bytes, which hold until the next call with this name."""
        held = self._memory.get(name)
        if held is None or len(held) < size:
            held = self._memory[name] = np.empty(size, np.uint8)
        return held[:size]


class ShardSource(Protocol):
    """Where a scan reads shards."""

    def read(
        self, receipt: Receipt, wanted: NDArray[np.intp] | None, scratch: Scratch | None
    ) -> ShardArrays:
        """Read a shard, or at least the wanted rows of it.

        Parameters
        ----------
        receipt
            Of the shard.
        wanted
            Rows counted from the shard's first, ascending; None for the whole shard.
        scratch
            Memory to read into; the arrays then hold until it is used again.

        Raises
        ------
        DamagedError
            If it is not as it was written.
        IncompleteError
            If it is not there.
        AccessError, UnavailableError, StorageError
            As the storage answers.
        """

    def read_features(self, receipt: Receipt, wanted: NDArray[np.intp]) -> NDArray[np.floating]:
        """Read the feature maps of some rows of a shard, without norms, in the order asked for.

        Parameters
        ----------
        receipt
            Of the shard.
        wanted
            Rows counted from the shard's first.

        Raises
        ------
        DamagedError, IncompleteError, AccessError, UnavailableError, StorageError
            As `read` does.
        """


def read_rows(
    source: ShardSource,
    receipt_of: Callable[[int], Receipt],
    plan: Plan,
    rows: Sequence[int] | NDArray[np.integer],
) -> NDArray[np.floating]:
    """Read the feature maps of any rows, in the order asked for, several shards at once.

    Returns
    -------
    ndarray
        Shape (row, y, x, channel), in the stored dtype.

    Raises
    ------
    QueryError
        If there is no such row.
    """
    numbers = np.asarray(rows, np.int64)
    outside = numbers[(numbers < 0) | (numbers >= plan.images)]
    if len(outside):
        raise QueryError(f"image {outside[0]} is asked for; this cache has 0 to {plan.images - 1}")
    found = np.empty((len(numbers), *plan.image_shape), plan.dtype)
    shards = numbers // plan.images_per_shard

    def read(shard: int) -> None:
        places = np.flatnonzero(shards == shard)
        wanted = numbers[places] - shard * plan.images_per_shard
        found[places] = source.read_features(receipt_of(shard), wanted)

    for _ in in_threads(read, np.unique(shards).tolist(), SHARDS_AT_ONCE):
        pass  # an error of a thread is raised here
    return found


def norm_bytes(plan: Plan) -> int:
    """Return the bytes of a stored shard of squared norms, padding included."""
    return 4 * plan.images_per_shard * plan.grid[0] * plan.grid[1]


def shard_name(plan: Plan, receipt: Receipt) -> str:
    """Return a shard's name for messages."""
    return f"shard {receipt.shard} of cache {plan.cache[:12]}"


def valid_rows(receipt: Receipt) -> NDArray[np.bool_]:
    """Return which rows of a shard can be hits, shape (image,)."""
    valid = np.ones(receipt.stop - receipt.start, np.bool_)
    valid[[row - receipt.start for row, _ in receipt.invalid]] = False
    return valid


def decode_stored(
    features: Bytes, norms: Bytes, receipt: Receipt, plan: Plan, scratch: Scratch, cost: ReadCost
) -> ShardArrays:
    """Check and decode a whole shard of which `cost` says what reading it took.

    Raises
    ------
    DamagedError
        If it is not as it was written.
    """
    started = time.perf_counter()
    into = None if plan.codec == "none" else scratch.memory("decoded", decoded_bytes(plan))
    decoded = decode_shard(features, receipt, plan, into)
    sq_norm = decode_norms(norms, receipt, plan)
    cost += ReadCost(decoding=time.perf_counter() - started)
    valid = valid_rows(receipt)
    return ShardArrays(decoded, sq_norm, np.arange(len(valid)), valid, cost)


def decode_shard(
    data: bytes | Bytes, receipt: Receipt, plan: Plan, into: Bytes | None = None
) -> NDArray[np.floating]:
    """Check the stored features of a whole shard by its receipt, and decode them.

    Raises
    ------
    DamagedError
        If they are not as they were written.
    """
    what = shard_name(plan, receipt)
    if len(data) != receipt.feature_bytes:
        raise DamagedError(f"{what} has {len(data)} bytes, not {receipt.feature_bytes}; run verify")
    count = receipt.stop - receipt.start
    return decode_features(data, count, plan, what, receipt.chunk_checksums, into)


def decode_norms(data: Bytes, receipt: Receipt, plan: Plan) -> NDArray[np.float32]:
    """Check the stored squared norms of a shard by its receipt; shape (image, y, x).

    Raises
    ------
    DamagedError
        If they are not as they were written, or not finite where an image can be a hit.
    """
    what = shard_name(plan, receipt)
    if len(data) != norm_bytes(plan) or sha256(data.data) != receipt.sq_norm:
        raise DamagedError(f"{what}: sq_norm is not as written; run verify")
    norms = data.view("<f4").reshape(-1, *plan.grid)[: receipt.stop - receipt.start]
    finite = np.isfinite(norms)
    if not finite.all() and not finite[valid_rows(receipt)].all():
        raise DamagedError(
            f"{what}: sq_norm is not finite, so the features are not; build the cache again"
        )
    return norms
