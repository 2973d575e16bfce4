"""Reading a shard from local disk in blocks that fit the processor's cache.

Each block is read, checked, and handed over to be scored, so its bytes come from main memory once.
A whole shard would be read, checked and scored in passes over main memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from io import FileIO
from typing import Final

import numpy as np
from fsspec.implementations.local import LocalFileSystem

from vfs_ops.caches.layout import features_key, sq_norm_key
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shard_sources import (
    Bytes,
    ReadCost,
    Scratch,
    ShardArrays,
    decode_norms,
    shard_name,
    valid_rows,
)
from vfs_ops.caches.shards import check_chunks, decode_index, index_bytes
from vfs_ops.errors import DamagedError
from vfs_ops.store import traffic
from vfs_ops.store.failures import storage_errors
from vfs_ops.store.workspace import Workspace

BLOCK_BYTES: Final = 6 << 20
"""Of stored features at once, about."""


def is_in_blocks(workspace: Workspace) -> bool:
    """Tell whether another block costs no other request: files of this machine are kept open."""
    return isinstance(workspace.filesystem, LocalFileSystem)


def blocks_of_file(
    workspace: Workspace, plan: Plan, receipt: Receipt, scratch: Scratch
) -> Iterator[ShardArrays]:
    """Read and check an uncompressed shard, some whole chunks at a time.

    Parameters
    ----------
    workspace, plan, receipt
        Which shard.
    scratch
        Memory to read into.

    Yields
    ------
    ShardArrays
        Rows that follow each other; they hold until `scratch` is used again.

    Raises
    ------
    DamagedError
        If the file is not as it was written.
    NotFoundError, AccessError, StorageError
        As the file system answers.
    """
    key, what = features_key(plan.cache, receipt.shard), shard_name(plan, receipt)
    valid, count = valid_rows(receipt), len(receipt.chunk_checksums)
    size = plan.images_per_chunk * plan.image_bytes
    blocks = -(-count * size // BLOCK_BYTES)
    at_once = -(-count // max(1, blocks))
    room = scratch.memory("stored", receipt.feature_bytes)
    dtype = np.dtype(plan.dtype).newbyteorder("<")
    begun = time.perf_counter()
    data = np.frombuffer(workspace.read(sq_norm_key(plan.cache, receipt.shard)), np.uint8)
    read = time.perf_counter()
    norms = decode_norms(data, receipt, plan)
    cost = ReadCost(1, len(data), read - begun, time.perf_counter() - read)
    with (
        storage_errors(f"{workspace.url}/{key}"),
        open(workspace.path_of(key), "rb", buffering=0) as file,
    ):
        length = os.fstat(file.fileno()).st_size
        if length != receipt.feature_bytes:
            raise DamagedError(
                f"{what} has {length} bytes, not {receipt.feature_bytes}; run verify"
            )
        file.seek(-index_bytes(plan), os.SEEK_END)
        tail = _filled(file, room[: index_bytes(plan)], what).tobytes()
        index = decode_index(tail, len(valid), plan, what)
        if count * size + index_bytes(plan) != length:
            raise DamagedError(f"{what} has bytes that belong to no chunk; run verify")
        traffic.count(requests=1, bytes_read=len(tail))
        cost += ReadCost(1, len(tail))
        file.seek(0)
        for first in range(0, count, at_once):
            begun = time.perf_counter()
            last = min(first + at_once, count)
            stored = _filled(file, room[first * size : last * size], what)
            read = time.perf_counter()
            checksums = receipt.chunk_checksums[first:last]
            check_chunks(stored, index[: last - first], checksums, what)  # all have one length
            rows = np.arange(first * plan.images_per_chunk, last * plan.images_per_chunk)
            rows = rows[: len(valid) - rows[0]]  # the last chunk of the last shard is padded
            features = stored.view(dtype).reshape(-1, *plan.image_shape)[: len(rows)]
            cost += ReadCost(0, len(stored), read - begun, time.perf_counter() - read)
            traffic.count(requests=0, bytes_read=len(stored))
            yield ShardArrays(features, norms[rows], rows, valid[rows], cost)
            cost = ReadCost()


def _filled(file: FileIO, room: Bytes, what: str) -> Bytes:
    """Read until some memory is full."""
    filled = 0
    while filled < len(room):
        count = file.readinto(room[filled:].data)
        if not count:
            raise DamagedError(f"{what} became shorter while it was read; run verify")
        filled += count
    return room
