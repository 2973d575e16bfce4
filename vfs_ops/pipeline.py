"""The work of a build: images through the model into whole shards, decoding and writing beside it.

Threads decode ahead of the model by a few batches; one thread converts, encodes and writes behind
it. Both are bounded, so memory does not grow with the number of images. Batches start at multiples
of the batch size and keep the place of unreadable images, so that a resumed build computes exactly
what an undisturbed one does.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vfs_ops.errors import DamagedError, ImageError
from vfs_ops.layout import write_receipt, write_shard
from vfs_ops.plans import Plan
from vfs_ops.preprocessing import Preprocessing
from vfs_ops.receipts import Receipt
from vfs_ops.spec import CacheSpec, shard_inputs
from vfs_ops.storage import Workspace
from vfs_ops.values import to_stored

BATCHES_AHEAD: Final = 3
"""Batches decoded before the model needs them."""
BATCHES_BEHIND: Final = 3
"""Batches the model may have finished before they are stored."""


class Reader(Protocol):
    """Where images come from; called from several threads."""

    def read(self, row: int) -> Image.Image:
        """Return the decoded image of a row; `ImageError` if it cannot be decoded."""


class Extractor(Protocol):
    """What the pipeline needs of a `vfs_ops.extract.FeatureExtractor`."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are prepared."""

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Fit an image to the model's input, shape (y, x, channel)."""

    def features(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Compute the feature maps of a batch, an array (image, y, x, channel) per layer."""


@dataclass(frozen=True)
class PendingCache:
    """A cache with shards to compute."""

    layer: int
    """Which of the extractor's outputs."""
    spec: CacheSpec
    plan: Plan
    done: frozenset[int]
    """Shards that have a receipt."""

    def wants(self, row: int) -> bool:
        """Tell whether the shard of a row is still to be computed."""
        return row // self.plan.images_per_shard not in self.done


def available_threads() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare_batches(
    rows: Iterable[range],
    reader: Reader,
    extractor: Extractor,
    threads: int,
) -> Generator[tuple[range, NDArray[np.uint8], dict[int, str]]]:
    """Decode and fit images batch by batch, a few batches ahead of whoever takes them.

    Yields
    ------
    rows, pixels, reasons
        The batch's rows; pixels of shape (image, y, x, channel), zeros for unreadable images; and
        why those are unreadable, by row.
    """
    height, width = extractor.preprocessing.input_size
    shape = (height, width, extractor.preprocessing.channels)

    def prepare(row: int) -> NDArray[np.uint8] | str:
        try:
            return extractor.prepare(reader.read(row))
        except ImageError as error:
            return str(error)

    with _pool(threads, "decode") as pool:
        waiting: deque[tuple[range, list[Future[NDArray[np.uint8] | str]]]] = deque()
        upcoming = iter(rows)
        while True:
            while len(waiting) <= BATCHES_AHEAD and (batch := next(upcoming, None)) is not None:
                waiting.append((batch, [pool.submit(prepare, row) for row in batch]))
            if not waiting:
                return
            batch, futures = waiting.popleft()
            pixels = np.zeros((len(batch), *shape), np.uint8)
            reasons: dict[int, str] = {}
            for place, (row, future) in enumerate(zip(batch, futures, strict=True)):
                prepared = future.result()
                if isinstance(prepared, str):
                    reasons[row] = prepared
                else:
                    pixels[place] = prepared
            yield batch, pixels, reasons


def compute_shards(
    workspace: Workspace,
    pending: Sequence[PendingCache],
    extractor: Extractor,
    reader: Reader,
    digests: NDArray[np.uint8],
    *,
    threads: int,
    on_images: Callable[[int], None],
) -> None:
    """Compute and store every shard that has no receipt, all caches in one pass over the images.

    Parameters
    ----------
    pending
        Caches of the same images and the same batch size.
    digests
        Content digests of the images, shape (image, 32).
    threads
        Decoding threads.
    on_images
        Told the number of images that went through the model, batch by batch.

    Raises
    ------
    VfsError
        Whatever reading, the model or storing raises; finished shards stay.
    """
    size, count = pending[0].plan.batch_size, pending[0].plan.images
    wanted = (
        range(start, min(start + size, count))
        for start in range(0, count, size)
        if any(cache.wants(start) for cache in pending)
    )
    store = _Store([_Assembler(workspace, cache, digests) for cache in pending])
    batches = prepare_batches(wanted, reader, extractor, threads)
    with closing(batches), _pool(1, "store") as writer:
        behind: deque[Future[None]] = deque()
        for rows, pixels, reasons in batches:
            maps = extractor.features(pixels)
            while len(behind) >= BATCHES_BEHIND:
                behind.popleft().result()
            behind.append(writer.submit(store.batch, rows, maps, reasons))
            on_images(len(rows))
        for future in behind:
            future.result()


class _Store:
    """Stores batches in order; after one failure, nothing more.

    Batches that the model has finished already must not fill a shard around a hole.
    """

    def __init__(self, assemblers: Sequence[_Assembler]) -> None:
        self.assemblers = assemblers
        self.failed = False

    def batch(
        self, rows: range, maps: Sequence[NDArray[np.float32]], reasons: dict[int, str]
    ) -> None:
        if self.failed:
            return
        self.failed = True  # until all of it is stored
        wanted = [each for each in self.assemblers if each.cache.wants(rows.start)]
        values = [_convert(each.cache, rows, maps[each.cache.layer], reasons) for each in wanted]
        for assembler, (stored, why) in zip(wanted, values, strict=True):
            assembler.add(rows, stored, why)
        self.failed = False


def _convert(
    cache: PendingCache, rows: range, maps: NDArray[np.float32], reasons: dict[int, str]
) -> tuple[NDArray[Any], dict[int, str]]:
    """Return a batch as stored, and why some of its rows are invalid."""
    if reasons:
        maps = maps.copy()  # other layers keep theirs
        maps[[row - rows.start for row in reasons]] = 0
    stored, finite = to_stored(maps, cache.plan.dtype)
    why = dict(reasons)
    for place in np.flatnonzero(~finite).tolist():
        why[rows.start + place] = "the model's features of this image are not finite, or too large"
    return stored, why


@dataclass
class _Assembler:
    """Gathers batches into one whole shard at a time, and writes it."""

    workspace: Workspace
    cache: PendingCache
    digests: NDArray[np.uint8]
    features: NDArray[Any] | None = None
    reasons: dict[int, str] = field(default_factory=dict)
    gathered: int = 0
    started: float = 0.0

    def add(self, rows: range, stored: NDArray[Any], reasons: dict[int, str]) -> None:
        plan = self.cache.plan
        shard = rows.start // plan.images_per_shard
        whole = plan.shard_rows(shard)
        if self.features is None:
            self.features = np.zeros((len(whole), *plan.image_shape), plan.dtype)
            self.reasons, self.gathered, self.started = {}, 0, time.monotonic()
        self.features[rows.start - whole.start : rows.stop - whole.start] = stored
        self.reasons.update(reasons)
        self.gathered += len(rows)
        if rows.stop == whole.stop:
            if self.gathered != len(whole):
                raise DamagedError(
                    f"shard {shard} of cache {plan.cache[:12]} was given {self.gathered} of "
                    f"{len(whole)} rows; nothing was written; build again"
                )
            self._write(shard, whole, self.features)
            self.features = None

    def _write(self, shard: int, rows: range, features: NDArray[Any]) -> None:
        stored = write_shard(self.workspace, self.cache.plan, shard, features, self.reasons)
        digests = (digest.tobytes() for digest in self.digests[rows.start : rows.stop])
        receipt = Receipt(
            **stored,
            inputs=shard_inputs(self.cache.spec, digests),
            seconds=round(time.monotonic() - self.started, 3),
            host=socket.gethostname(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_receipt(self.workspace, self.cache.spec.id, receipt)


@contextmanager
def _pool(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Make a pool of threads that drops what it has not begun when its user fails."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=f"vfs-{name}")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
