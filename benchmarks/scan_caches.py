"""Caches of random features for the benchmarks of scans, and the floors that they have."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from vfs_ops.caches.cache import Cache
from vfs_ops.caches.cache_reading import ShardStore
from vfs_ops.caches.layout import features_key, sq_norm_key
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shard_sources import Scratch
from vfs_ops.scans.queries import Query
from vfs_ops.store.workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

SHAPE = (7, 7, 512)


def random_cache(
    workspace: Workspace,
    images: int,
    dtype: str = "float16",
    shape: tuple[int, int, int] = SHAPE,
) -> Cache:
    """Store a cache of post-ReLU random features."""
    from made_caches import made_cache

    rng = np.random.default_rng(0)
    base = np.maximum(rng.standard_normal((1024, *shape), dtype=np.float32), 0)

    def features(rows: range) -> np.ndarray:
        shift = rows.start * 37 % base[0].size
        flat = np.roll(base[: len(rows)].reshape(len(rows), -1), shift, axis=1)
        return flat.reshape(len(rows), *shape)

    return made_cache(workspace, features, images=images, shape=shape, dtype=dtype)


def random_queries(cache: Cache, count: int, size: int = 3) -> list[Query]:
    """Return queries of `size` × `size` cells, of images that are not in the cache."""
    from made_caches import made_query

    rng = np.random.default_rng(1)
    shape = (size, size, cache.channels)
    return [
        made_query(
            cache,
            np.ones((size, size), np.float32),
            np.maximum(rng.standard_normal(shape, dtype=np.float32), 0),
        )
        for _ in range(count)
    ]


def keys(cache: Cache) -> list[str]:
    """Return the objects that a search of the whole cache reads."""
    return [
        key(cache.id, receipt.shard)
        for receipt in cache.receipts
        for key in (features_key, sq_norm_key)
    ]


def on_threads(work: Callable[[object], object], items: Iterable[object], threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, items):
            pass


def read_and_decode(cache: Cache, threads: int) -> None:
    """Read, check and decode all shards as a search does, and score nothing."""
    store, memory = ShardStore(cache.workspace, cache.plan), Memories()

    def one(receipt: object) -> None:
        if isinstance(receipt, Receipt):
            store.read(receipt, None, memory.own())

    on_threads(one, cache.receipts, threads)


def read_by_zarr(cache: Cache, threads: int) -> None:
    """Read and decode the same arrays with Zarr, a shard at a time."""
    import zarr

    group = zarr.open_group(cache.workspace.zarr_store(f"caches/{cache.id}/data.zarr"), mode="r")
    arrays = [group["features"], group["sq_norm"]]

    def one(receipt: object) -> None:
        if isinstance(receipt, Receipt):
            for array in arrays:
                array[receipt.start : receipt.stop]

    on_threads(one, cache.receipts, threads)


def read_raw(cache: Cache, threads: int) -> None:
    """Read the same files, whole, with plain Python."""
    paths = [cache.workspace.path_of(key) for key in keys(cache)]
    on_threads(lambda path: Path(str(path)).read_bytes(), paths, threads)


def fetch(cache: Cache, threads: int) -> None:
    """Fetch the same objects with the same client, as many at once as a search does."""

    def one(receipt: object) -> None:
        if isinstance(receipt, Receipt):
            ShardStore(cache.workspace, cache.plan).fetch(receipt, Scratch())

    on_threads(one, cache.receipts, threads)


def forget(cache: Cache) -> None:
    """Drop the cache's files from the system's page cache."""
    for key in keys(cache):
        with open(cache.workspace.path_of(key), "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Memories:
    """Memory of each thread, as a scan has it."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def own(self) -> Scratch:
        """Return that of the calling thread."""
        if not hasattr(self._of_thread, "scratch"):
            self._of_thread.scratch = Scratch()
        return self._of_thread.scratch  # type: ignore[no-any-return]


def shard_prefixes(cache: Cache, counts: Iterable[int]) -> Iterator[tuple[int, Cache]]:
    """Return the cache cut after each number of images, rounded to whole shards."""
    for count in counts:
        shards = min(cache.shard_count, -(-count // cache.plan.images_per_shard))
        some = tuple(cache.receipts[number] for number in range(shards))
        yield some[-1].stop, replace(cache, receipts=some)
