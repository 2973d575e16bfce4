"""The work of a build: images through the model into whole shards, decoding and writing beside it.

Threads decode ahead of the model by a few batches; one thread converts, encodes and writes behind
it. Both are bounded, so memory does not grow with the number of images. Batches start at multiples
of the batch size and keep the place of unreadable images, so that a resumed build computes exactly
what an undisturbed one does.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vfs_ops.builds.assembly import ShardStore
from vfs_ops.builds.reports import ShardCallback
from vfs_ops.builds.stretches import PendingCache, Stretch
from vfs_ops.errors import ImageError, VfsError
from vfs_ops.identity.preprocessing import Preprocessing
from vfs_ops.store.workspace import Workspace

BATCHES_AHEAD: Final = 3
"""Batches decoded before the model needs them."""
BATCHES_BEHIND: Final = 3
"""Batches the model may have finished before they are stored."""


class Reader(Protocol):
    """Where images come from; called from several threads."""

    def read(self, row: int) -> Image.Image:
        """Return the decoded image of a row; `ImageError` if it cannot be decoded."""

    def digest(self, row: int) -> bytes:
        """Return the content digest of a row, 32 bytes."""


class Extractor(Protocol):
    """What the pipeline needs of a `vfs_ops.models.extract.FeatureExtractor`."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are prepared."""

    @property
    def hardware(self) -> str:
        """What computes; equal text on one host means equal bits."""

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Fit an image to the model's input, shape (y, x, channel)."""

    def features(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Compute the feature maps of a batch, an array (image, y, x, channel) per layer."""


def available_threads() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def threads_named(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Make a pool of threads that drops what it has not begun when its user fails."""
    pool = ThreadPoolExecutor(count, thread_name_prefix=f"vfs-{name}")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def prepare_batches(
    batches: Iterable[tuple[Stretch, range]],
    reader: Reader,
    extractor: Extractor,
    decoders: ThreadPoolExecutor,
) -> Generator[tuple[Stretch, range, NDArray[np.uint8], dict[int, str]]]:
    """Decode and fit images batch by batch, a few batches ahead of whoever takes them.

    Yields
    ------
    stretch, rows, pixels, reasons
        Where the batch lies; pixels of shape (image, y, x, channel), zeros for unreadable images;
        and why those are unreadable, by row.
    """
    height, width = extractor.preprocessing.input_size
    shape = (height, width, extractor.preprocessing.channels)

    def prepare(row: int) -> NDArray[np.uint8] | str:
        try:
            return extractor.prepare(reader.read(row))
        except ImageError as error:
            return str(error)

    waiting: deque[tuple[Stretch, range, list[Future[NDArray[np.uint8] | str]]]] = deque()
    upcoming = iter(batches)
    try:
        while True:
            while len(waiting) <= BATCHES_AHEAD and (batch := next(upcoming, None)) is not None:
                waiting.append((*batch, [decoders.submit(prepare, row) for row in batch[1]]))
            if not waiting:
                return
            stretch, rows, futures = waiting.popleft()
            pixels = np.zeros((len(rows), *shape), np.uint8)
            reasons: dict[int, str] = {}
            for place, (row, future) in enumerate(zip(rows, futures, strict=True)):
                prepared = future.result()
                if isinstance(prepared, str):
                    reasons[row] = prepared
                else:
                    pixels[place] = prepared
            yield stretch, rows, pixels, reasons
    finally:
        for _, _, futures in waiting:
            for future in futures:
                future.cancel()


def compute_shards(
    workspace: Workspace,
    pending: Sequence[PendingCache],
    extractor: Extractor,
    reader: Reader,
    work: Iterable[Stretch],
    *,
    decoders: ThreadPoolExecutor,
    on_images: Callable[[int], None],
    on_shard: ShardCallback,
) -> None:
    """Compute and store the missing shards of some stretches, all caches in one pass.

    The pipeline does not drain between stretches.

    Parameters
    ----------
    pending
        Caches of the same images and the same batch size.
    work
        What is missing; taken a few batches ahead of the model.
    decoders
        Threads that decode.
    on_images
        Told the number of images that went through the model, batch by batch.
    on_shard
        Told of each finished shard.

    Raises
    ------
    VfsError
        Whatever reading, the model or storing raises; finished shards stay.
    """
    store = ShardStore(workspace, pending, reader.digest, extractor.hardware)
    wanted = ((stretch, rows) for stretch in work for rows in stretch.batches(pending))
    batches = prepare_batches(wanted, reader, extractor, decoders)
    try:
        with closing(batches), threads_named(1, "store") as writer:
            behind: deque[Future[None]] = deque()
            for stretch, rows, pixels, reasons in batches:
                maps = extractor.features(pixels)
                while len(behind) >= BATCHES_BEHIND:
                    behind.popleft().result()
                behind.append(writer.submit(store.add, stretch, rows, maps, reasons))
                _tell(store, on_shard)
                on_images(len(rows))
            while behind:
                behind.popleft().result()
    except VfsError:
        _tell(store, on_shard)  # what was finished before
        raise
    _tell(store, on_shard)


def _tell(store: ShardStore, on_shard: ShardCallback) -> None:
    for report in store.finished():
        on_shard(report)
