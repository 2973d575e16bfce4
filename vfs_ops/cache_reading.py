"""Reading shards where they are stored: whole, or the chunks that hold some rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vfs_ops.layout import features_key, sq_norm_key
from vfs_ops.plans import Plan
from vfs_ops.receipts import Receipt
from vfs_ops.shard_sources import (
    Bytes,
    ReadCost,
    Scratch,
    ShardArrays,
    decode_norms,
    decode_shard,
    decode_stored,
    norm_bytes,
    shard_name,
    valid_rows,
)
from vfs_ops.shards import decode_chunk, decode_index, index_bytes
from vfs_ops.storage import Workspace
from vfs_ops.urls import LOCAL_PROTOCOLS

REQUESTS_AT_ONCE: Final = 32
"""Reads of one process that wait for a remote store together."""
_LOCAL_REQUEST: Final = 4 << 10
_REMOTE_REQUEST: Final = 256 << 10
"""Bytes that arrive in the time that one more request takes."""


@dataclass(frozen=True)
class StoredShards:
    """The shards of a cache where they were written."""

    workspace: Workspace
    plan: Plan

    def read(
        self, receipt: Receipt, wanted: NDArray[np.intp] | None, scratch: Scratch | None
    ) -> ShardArrays:
        """Read a shard in two requests, or the chunks of some rows in few; see `ShardSource`."""
        if wanted is None or not is_read_in_ranges(self.workspace, self.plan, receipt, wanted):
            return self._whole(receipt, scratch or Scratch())
        return self._part(receipt, wanted)

    def read_norms(self, receipt: Receipt) -> NDArray[np.float32]:
        """Read the squared norms of one shard, shape (image, y, x); see `ShardSource`."""
        data = self.workspace.read(sq_norm_key(self.plan.cache, receipt.shard))
        return decode_norms(np.frombuffer(data, np.uint8), receipt, self.plan)

    def read_features(self, receipt: Receipt, wanted: NDArray[np.intp]) -> NDArray[np.floating]:
        """Read the chunks of some rows, or the whole shard; see `ShardSource`."""
        if not is_read_in_ranges(self.workspace, self.plan, receipt, np.unique(wanted)):
            data = self.workspace.read(features_key(self.plan.cache, receipt.shard))
            return decode_shard(data, receipt, self.plan)[wanted]
        rows, features, _ = self._chunks(receipt, np.unique(wanted))
        return features[np.searchsorted(rows, wanted)]

    def fetch(self, receipt: Receipt, scratch: Scratch) -> tuple[Bytes, Bytes]:
        """Read the features and the squared norms of a shard as they are stored."""
        plan, workspace = self.plan, self.workspace
        features = scratch.memory("stored", receipt.feature_bytes)
        norms = scratch.memory("norms", norm_bytes(plan))
        keys = features_key(plan.cache, receipt.shard), sq_norm_key(plan.cache, receipt.shard)
        found = together(
            workspace,
            [
                lambda: workspace.read_into(keys[0], features),
                lambda: workspace.read_into(keys[1], norms),
            ],
        )
        return found[0], found[1]

    def _whole(self, receipt: Receipt, scratch: Scratch) -> ShardArrays:
        started = time.perf_counter()
        features, norms = self.fetch(receipt, scratch)
        cost = ReadCost(2, len(features) + len(norms), time.perf_counter() - started)
        return decode_stored(features, norms, receipt, self.plan, scratch, cost)

    def _part(self, receipt: Receipt, wanted: NDArray[np.intp]) -> ShardArrays:
        started = time.perf_counter()
        (rows, features, cost), norms = together(
            self.workspace,
            [lambda: self._chunks(receipt, wanted), lambda: self.read_norms(receipt)],
        )
        cost += ReadCost(1, norm_bytes(self.plan))
        seconds = time.perf_counter() - started
        cost = ReadCost(cost.requests, cost.bytes, seconds - cost.decoding, cost.decoding)
        return ShardArrays(features, norms[rows], rows, valid_rows(receipt)[rows], cost)

    def _chunks(
        self, receipt: Receipt, wanted: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.floating], ReadCost]:
        """Read the chunks that hold some rows: which rows came, and their feature maps."""
        plan, what = self.plan, shard_name(self.plan, receipt)
        key, per_chunk = features_key(plan.cache, receipt.shard), plan.images_per_chunk
        index, cost = self._index(receipt)
        chunks = np.unique(wanted // per_chunk)
        spans = _spans(index[chunks], request_bytes(self.workspace))
        started = time.perf_counter()
        parts = together(
            self.workspace,
            [lambda a=a, b=b: self.workspace.read(key, a, b) for a, b in spans],  # type: ignore[misc]
        )
        read = time.perf_counter()
        starts = np.array([start for start, _ in spans])
        count = receipt.stop - receipt.start
        features = np.empty((len(chunks), per_chunk, *plan.image_shape), plan.dtype)
        for number, (offset, length) in enumerate(index[chunks].tolist()):
            span = int(np.searchsorted(starts, offset, "right")) - 1
            begin = offset - spans[span][0]
            stored = parts[span][begin : begin + length]
            checksum = receipt.chunk_checksums[int(chunks[number])]
            features[number] = decode_chunk(stored, checksum, plan, what)
        rows = (chunks[:, None] * per_chunk + np.arange(per_chunk)).reshape(-1)
        there = rows < count  # the last chunk of the last shard may be padded
        cost += ReadCost(
            len(spans), sum(map(len, parts)), read - started, time.perf_counter() - read
        )
        return rows[there], features.reshape(-1, *plan.image_shape)[there], cost

    def _index(self, receipt: Receipt) -> tuple[NDArray[np.int64], ReadCost]:
        """Return where the chunks lie: known of a shard that is not compressed, else read."""
        plan, started = self.plan, time.perf_counter()
        if plan.codec == "none":
            count, size = len(receipt.chunk_checksums), plan.images_per_chunk * plan.image_bytes
            return np.stack([np.arange(count) * size, np.full(count, size)], axis=1), ReadCost()
        size = receipt.feature_bytes
        key = features_key(plan.cache, receipt.shard)
        tail = self.workspace.read(key, size - index_bytes(plan), size)
        index = decode_index(tail, receipt.stop - receipt.start, plan, shard_name(plan, receipt))
        return index, ReadCost(1, len(tail), time.perf_counter() - started)


def request_bytes(workspace: Workspace) -> int:
    """Return how many bytes arrive in the time that one more request takes."""
    return _LOCAL_REQUEST if workspace.protocol in LOCAL_PROTOCOLS else _REMOTE_REQUEST


def ranged_cost(
    workspace: Workspace, plan: Plan, receipt: Receipt, wanted: NDArray[np.intp]
) -> tuple[int, int]:
    """Return how many bytes of features and requests the chunks of some rows take, about.

    Of a compressed shard, whose index is not read yet, all chunks count the same.
    """
    count = len(receipt.chunk_checksums)
    size = (receipt.feature_bytes - index_bytes(plan)) // count
    chunks = np.unique(wanted // plan.images_per_chunk)
    spans = _spans(
        np.stack([chunks * size, np.full(len(chunks), size)], axis=1), request_bytes(workspace)
    )
    read, requests = sum(stop - start for start, stop in spans), len(spans)
    return (read, requests) if plan.codec == "none" else (read + index_bytes(plan), requests + 1)


def is_read_in_ranges(
    workspace: Workspace, plan: Plan, receipt: Receipt, wanted: NDArray[np.intp]
) -> bool:
    """Tell whether reading the chunks of some rows costs less than the whole shard."""
    read, requests = ranged_cost(workspace, plan, receipt, wanted)
    return read + requests * request_bytes(workspace) < receipt.feature_bytes


def together(workspace: Workspace, reads: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run reads side by side where waiting costs more than a thread does: on a remote store."""
    if workspace.protocol in LOCAL_PROTOCOLS or len(reads) == 1:
        return [read() for read in reads]
    futures = [_readers().submit(read) for read in reads[1:]]
    try:
        first = reads[0]()
        return [first, *(future.result() for future in futures)]
    finally:
        for future in futures:
            future.cancel()


def _spans(chunks: NDArray[np.int64], gap: int) -> list[tuple[int, int]]:
    """Join chunks, given by offset and length, ascending, that lie less than `gap` bytes apart."""
    spans: list[tuple[int, int]] = []
    for offset, length in chunks.tolist():
        if spans and offset - spans[-1][1] < gap:
            spans[-1] = (spans[-1][0], offset + length)
        else:
            spans.append((offset, offset + length))
    return spans


@lru_cache(maxsize=1)
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="vfs-read")
