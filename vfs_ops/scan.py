"""Search a cache: read its shards on threads, score them, merge."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vfs_ops.caches import Cache, ShardArrays
from vfs_ops.errors import QueryError
from vfs_ops.hits import Hits, Provenance
from vfs_ops.predicates import Filters
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.queries import Query
from vfs_ops.scoring import Kernel, best_of_block
from vfs_ops.topk import Best, best_of

READING_THREADS: Final = 4
"""Shards that are read at once by default. Scoring has torch's own threads."""


def search(
    cache: Cache,
    query: Query,
    k: int = 10,
    *,
    where: Filters | None = None,
    unique_by: str | None = None,
    exclude_query_image: bool = True,
    threads: int | None = None,
    progress: ProgressCallback = silent,
) -> Hits:
    """Find the regions of a cache's images that are most similar to a query.

    All images are compared, at every place of the grid where the whole region fits, by cosine
    similarity as in `vfs_ops.exact`. The same hits, in the same order, come with the same bits
    whatever the number of threads. Each image gives at most one hit; ties go to the lower image,
    then y, then x.

    Parameters
    ----------
    cache
        What to search.
    query
        Of the cache's own extractor.
    k
        How many hits at most; fewer come where fewer images are left.
    where
        Search only images whose metadata match: ``[(column, operator, value), …]`` joined by AND,
        or a list of such lists joined by OR; see `vfs_ops.predicates`.
    unique_by
        Column of which each value may give one hit at most, as ``"label"``. Images without a
        value stand for themselves.
    exclude_query_image
        Leave out all rows that hold the query's own image, by content digest.
    threads
        Shards that are read at once; `READING_THREADS` by default.
    progress
        Told how many shards are done.

    Raises
    ------
    QueryError
        If an option cannot be used, or no image is left to search.
    ExtractorMismatchError
        If the query is of another extractor; the message names what differs.
    PredicateError
        If `where` is malformed.

    Examples
    --------
    >>> hits = search(cache, query, k=5, where=[("label", "!=", "cat")])  # doctest: +SKIP
    >>> hits.to_frame()  # doctest: +SKIP
    """
    started = time.perf_counter()
    _check_positive("k", k)
    readers = READING_THREADS if threads is None else _check_positive("threads", threads)
    if not isinstance(query, Query):
        raise QueryError(
            f"query is a {type(query).__name__}; expected what query_from_image or query_from_row "
            "returned"
        )
    query.check_matches(cache)
    kernel = Kernel.of(query.pattern, cache.grid)
    allowed = _allowed(cache, query, where, exclude_query_image)
    groups = _groups(cache, unique_by)
    shards = [
        shard
        for shard in range(cache.shard_count)
        if allowed[cache.shard_rows(shard).start : cache.shard_rows(shard).stop].any()
    ]
    best = Best.empty()
    progress(Progress("search", 0, len(shards), "shards"))
    for done, (shard, arrays) in enumerate(_read_ahead(cache, shards, readers), start=1):
        rows = cache.shard_rows(shard)
        images = np.arange(rows.start, rows.stop)
        found = best_of_block(
            kernel,
            arrays.features,
            arrays.sq_norm,
            np.flatnonzero(allowed[images] & arrays.valid),
            images,
            groups[images],
            k,
            best.floor(k),
        )
        best = best_of([best, found], k)
        progress(Progress("search", done, len(shards), "shards"))
    provenance = Provenance(
        cache=cache.id,
        dataset=cache.dataset.id,
        images_searched=int(allowed.sum()),
        shards_read=len(shards),
        seconds=time.perf_counter() - started,
    )
    return Hits.of(cache, query, best, provenance)


def _check_positive(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise QueryError(f"{name} is {value!r}; expected a whole number from 1 up")
    return int(value)


def _allowed(
    cache: Cache, query: Query, where: Filters | None, exclude_query_image: bool
) -> NDArray[np.bool_]:
    """Return which images may be hits, shape (image,)."""
    matching = cache.dataset.where(where)
    allowed = matching.copy()
    if exclude_query_image and query.digest is not None:
        digests = cache.dataset.table(["digest"])["digest"]
        own = pc.equal(digests, pa.scalar(query.digest, digests.type))
        allowed &= ~own.to_numpy(zero_copy_only=False)
    allowed[list(cache.invalid)] = False
    if not matching.any():
        raise QueryError(
            f"no image is left to search: none of {cache.count} matches the filter; widen it"
        )
    if not allowed.any():
        raise QueryError(
            f"no image is left to search: {int(matching.sum())} of {cache.count} match the "
            f"filter, and the query's own image and {len(cache.invalid)} without features are "
            "left out; widen the filter, or give exclude_query_image=False"
        )
    return allowed


def _groups(cache: Cache, unique_by: str | None) -> NDArray[np.int64]:
    """Return which group each image is of, shape (image,); a group gives one hit at most."""
    images = np.arange(cache.count)
    if unique_by is None:
        return images
    names = cache.dataset.column_names()
    if unique_by not in names:
        useful = ["uri", "label", "width", "height", *cache.dataset.manifest.metadata_columns]
        raise QueryError(f"unique_by is {unique_by!r}; expected one of {', '.join(useful)}")
    column = cache.dataset.table([unique_by])[unique_by].combine_chunks()
    if pa.types.is_nested(column.type):
        raise QueryError(
            f"unique_by is {unique_by!r}, a column of lists; expected one of single values"
        )
    encoded = pc.dictionary_encode(column)
    values = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.where(values < 0, len(encoded.dictionary) + images, values)


def _read_ahead(
    cache: Cache, shards: Sequence[int], threads: int
) -> Iterator[tuple[int, ShardArrays]]:
    """Read shards in order, one more than `threads` ahead of whoever takes them."""
    waiting: deque[tuple[int, Future[ShardArrays]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="vfs-search")
    try:
        for shard in shards:
            waiting.append((shard, pool.submit(cache.read_shard, shard)))
            if len(waiting) > threads:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
