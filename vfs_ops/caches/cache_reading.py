"""Reading shards where they are stored: whole, or the chunks that hold some rows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vfs_ops.caches.layout import features_key, sq_norm_key
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shard_sources import (
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
from vfs_ops.caches.shards import decode_chunk, decode_index, index_bytes
from vfs_ops.errors import IncompleteError, NotFoundError
from vfs_ops.store.concurrent_reads import concurrently, read_ranges
from vfs_ops.store.traffic import counting
from vfs_ops.store.urls import LOCAL_PROTOCOLS
from vfs_ops.store.workspace import Workspace

_LOCAL_REQUEST: Final = 4 << 10
_REMOTE_REQUEST: Final = 256 << 10
"""Bytes that arrive in the time that one more request takes."""
_WORTHWHILE: Final = 0.75
"""Part of a shard below which ranges are read: their chunks are copied, a whole shard is not."""


@dataclass(frozen=True)
class ShardStore:
    """The shards of a cache where they were written."""

    workspace: Workspace
    plan: Plan

    def read(
        self, receipt: Receipt, wanted: NDArray[np.intp] | None, scratch: Scratch | None
    ) -> ShardArrays:
        """Read a shard in two requests, or the chunks of some rows in few; see `ShardSource`."""
        with self._missing_is_incomplete(receipt):
            if wanted is None or not is_read_in_ranges(self.workspace, self.plan, receipt, wanted):
                return self._whole(receipt, scratch or Scratch())
            return self._part(receipt, wanted)

    def read_norms(self, receipt: Receipt) -> NDArray[np.float32]:
        """Read the squared norms of one shard, shape (image, y, x); see `ShardSource`."""
        key, size = sq_norm_key(self.plan.cache, receipt.shard), norm_bytes(self.plan)
        data = self.workspace.read(key, most=size)
        return decode_norms(np.frombuffer(data, np.uint8), receipt, self.plan)

    def read_features(self, receipt: Receipt, wanted: NDArray[np.intp]) -> NDArray[np.floating]:
        """Read the chunks of some rows, or the whole shard; see `ShardSource`."""
        with self._missing_is_incomplete(receipt):
            if not is_read_in_ranges(self.workspace, self.plan, receipt, np.unique(wanted)):
                key = features_key(self.plan.cache, receipt.shard)
                data = self.workspace.read(key, most=receipt.feature_bytes)
                return decode_shard(data, receipt, self.plan)[wanted]
            rows, features, _ = self._chunks(receipt, np.unique(wanted))
            return features[np.searchsorted(rows, wanted)]

    def fetch(self, receipt: Receipt, scratch: Scratch) -> tuple[Bytes, Bytes]:
        """Read the features and the squared norms of a shard as they are stored.

        Raises
        ------
        IncompleteError, AccessError, UnavailableError, StorageError
            As `ShardSource.read` does.
        """
        plan, workspace = self.plan, self.workspace
        features = scratch.memory("stored", receipt.feature_bytes)
        norms = scratch.memory("norms", norm_bytes(plan))
        keys = features_key(plan.cache, receipt.shard), sq_norm_key(plan.cache, receipt.shard)
        with self._missing_is_incomplete(receipt):
            found = _together(
                workspace,
                lambda: workspace.read_into(keys[0], features),
                lambda: workspace.read_into(keys[1], norms),
            )
        return found[0], found[1]

    def _whole(self, receipt: Receipt, scratch: Scratch) -> ShardArrays:
        started = time.perf_counter()
        with counting() as traffic:
            features, norms = self.fetch(receipt, scratch)
        cost = ReadCost(traffic.requests, traffic.bytes_read, time.perf_counter() - started)
        return decode_stored(features, norms, receipt, self.plan, scratch, cost)

    def _part(self, receipt: Receipt, wanted: NDArray[np.intp]) -> ShardArrays:
        started = time.perf_counter()
        with counting() as traffic:
            (rows, features, decoding), norms = _together(
                self.workspace,
                lambda: self._chunks(receipt, wanted),
                lambda: self.read_norms(receipt),
            )
        reading = time.perf_counter() - started - decoding
        cost = ReadCost(traffic.requests, traffic.bytes_read, reading, decoding)
        return ShardArrays(features, norms[rows], rows, valid_rows(receipt)[rows], cost)

    def _chunks(
        self, receipt: Receipt, wanted: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.floating], float]:
        """Read the chunks that hold some rows.

        Returns
        -------
        rows, features : ndarray
            Which rows of the shard came, and their feature maps.
        decoding : float
            Seconds that checking and decoding took.
        """
        plan, what = self.plan, shard_name(self.plan, receipt)
        key, per_chunk = features_key(plan.cache, receipt.shard), plan.images_per_chunk
        index, chunks = self._index(receipt), np.unique(wanted // per_chunk)
        spans = _spans(index[chunks], request_bytes(self.workspace))
        parts = read_ranges(self.workspace, key, spans)
        read = time.perf_counter()
        starts = np.array([start for start, _ in spans])
        features = np.empty((len(chunks), per_chunk, *plan.image_shape), plan.dtype)
        for number, (offset, length) in enumerate(index[chunks].tolist()):
            span = int(np.searchsorted(starts, offset, "right")) - 1
            if span:
                parts[span - 1] = b""  # what is decoded makes room for what will be
            begin = offset - spans[span][0]
            stored = memoryview(parts[span])[begin : begin + length]
            checksum = receipt.chunk_checksums[int(chunks[number])]
            features[number] = decode_chunk(stored, checksum, plan, what)
        rows = (chunks[:, None] * per_chunk + np.arange(per_chunk)).reshape(-1)
        # the last chunk of the last shard is padded
        count = int(np.searchsorted(rows, receipt.stop - receipt.start))
        maps = features.reshape(-1, *plan.image_shape)[:count]
        return rows[:count], maps, time.perf_counter() - read

    @contextlib.contextmanager
    def _missing_is_incomplete(self, receipt: Receipt) -> Iterator[None]:
        try:
            yield
        except NotFoundError as error:
            raise IncompleteError(
                f"{shard_name(self.plan, receipt)} is missing ({error}); mirror or build the "
                "cache again, or search the others with allow_partial=True"
            ) from error

    def _index(self, receipt: Receipt) -> NDArray[np.int64]:
        """Return where the chunks lie: known of a shard that is not compressed, else read."""
        plan = self.plan
        if plan.codec == "none":
            count, size = len(receipt.chunk_checksums), plan.images_per_chunk * plan.image_bytes
            return np.stack([np.arange(count) * size, np.full(count, size)], axis=1)
        size = receipt.feature_bytes
        key = features_key(plan.cache, receipt.shard)
        tail = self.workspace.read(key, size - index_bytes(plan), size)
        return decode_index(tail, receipt.stop - receipt.start, plan, shard_name(plan, receipt))


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
    """Tell whether reading the chunks of some rows costs clearly less than the whole shard."""
    read, requests = ranged_cost(workspace, plan, receipt, wanted)
    return read + requests * request_bytes(workspace) < _WORTHWHILE * receipt.feature_bytes


def _together(workspace: Workspace, *reads: Callable[[], Any]) -> list[Any]:
    """Run reads side by side on a remote store, where waiting costs more than a thread does."""
    return list(concurrently(workspace, lambda read: read(), reads))


def _spans(chunks: NDArray[np.int64], gap: int) -> list[tuple[int, int]]:
    """Join chunks, given by offset and length, ascending, that lie less than `gap` bytes apart."""
    spans: list[tuple[int, int]] = []
    for offset, length in chunks.tolist():
        if spans and offset - spans[-1][1] < gap:
            spans[-1] = (spans[-1][0], offset + length)
        else:
            spans.append((offset, offset + length))
    return spans
