"""Reading many objects, or many ranges of one, at a time, which hides the latency of a network."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from vfs_ops.store.locations import MAX_OBJECT_BYTES, Folder
from vfs_ops.store.urls import LOCAL_PROTOCOLS

READERS: Final = 32
"""Requests under way at a time."""

T = TypeVar("T")
R = TypeVar("R")


def read_many(
    folder: Folder,
    paths: Iterable[str],
    *,
    most: int = MAX_OBJECT_BYTES,
    readers: int = READERS,
) -> Iterator[bytes | None]:
    """Read whole objects, in the order of their paths; None for one that is not there.

    At most twice `readers` objects are held at a time, however many are asked for; none may have
    more than `most` bytes.

    Raises
    ------
    DamagedError
        If one has.
    AccessError, UnavailableError, StorageError
        As the storage answers.
    """
    return concurrently(folder, partial(folder.read_optional, most=most), paths, readers)


def read_ranges(
    folder: Folder, path: str, ranges: Sequence[tuple[int, int]], *, readers: int = READERS
) -> list[bytes]:
    """Read parts of one object: bytes `start` to `stop` of each range, in their order.

    Raises
    ------
    NotFoundError, AccessError, UnavailableError, StorageError
        As the storage answers; a part that comes back longer than asked is a `StorageError`.
    """

    def read(part: tuple[int, int]) -> bytes:
        return folder.read(path, *part)

    return list(concurrently(folder, read, ranges, readers))


def concurrently(
    folder: Folder, work: Callable[[T], R], items: Iterable[T], workers: int = READERS
) -> Iterator[R]:
    """Apply `work` to items, `in_threads` where the folder is remote, else one by one."""
    if folder.protocol in LOCAL_PROTOCOLS:
        return map(work, items)
    return in_threads(work, items, workers)


def in_threads(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Apply `work` to items in threads; results come in order, at most twice `workers` waiting.

    What the threads ask of storages counts where this was called (`traffic.counting`). Closing the
    iterator, or an error, waits for what is under way and starts nothing more.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="storage") as pool:
        try:
            for item in items:
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(contextvars.copy_context().run, work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
