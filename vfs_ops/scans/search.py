"""Search a cache where it lies: plan over its shards, score them side by side, merge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from vfs_ops.caches.cache import Cache
from vfs_ops.datasets.predicates import Filters
from vfs_ops.datasets.same_images import rows_of
from vfs_ops.errors import QueryError
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.scans.hits import Hits, ManyHits
from vfs_ops.scans.options import check_whole
from vfs_ops.scans.plan import plan_scan
from vfs_ops.scans.provenance import Ledger
from vfs_ops.scans.queries import Query
from vfs_ops.scans.run import Questions, SearchRun
from vfs_ops.scans.tasks import ScanJob


@overload
def search(
    cache: Cache,
    query: Query,
    k: int = 10,
    *,
    where: Filters | None = None,
    unique_by: str | None = None,
    exclude_query_image: bool = True,
    threads: int | None = None,
    client: Any = None,
    allow_partial: bool = False,
    progress: ProgressCallback = silent,
) -> Hits: ...


@overload
def search(
    cache: Cache,
    query: None = None,
    k: int = 10,
    *,
    queries: Sequence[Query],
    where: Filters | None = None,
    unique_by: str | None = None,
    exclude_query_image: bool = True,
    threads: int | None = None,
    client: Any = None,
    allow_partial: bool = False,
    progress: ProgressCallback = silent,
) -> ManyHits: ...


def search(
    cache: Cache,
    query: Query | None = None,
    k: int = 10,
    *,
    queries: Sequence[Query] | None = None,
    where: Filters | None = None,
    unique_by: str | None = None,
    exclude_query_image: bool = True,
    threads: int | None = None,
    client: Any = None,
    allow_partial: bool = False,
    progress: ProgressCallback = silent,
) -> Hits | ManyHits:
    """Find the regions of a cache's images that are most similar to a query, or to each of many.

    All images are compared, at every place of the grid where the whole region fits, by cosine
    similarity as in `vfs_ops.kernel.exact`. The same hits, in the same order, come with the same
    bits whatever the number of threads, on a cluster, and from memory. Each image gives at most one
    hit a query; ties go to the lower image, then y, then x.

    Parameters
    ----------
    cache
        What to search.
    query
        Of the cache's own extractor.
    k
        How many hits at most of each query; fewer come where fewer images are left.
    queries
        Instead of one query: any number, all of the cache's own extractor, searched for in one
        scan, which reads each shard once.
    where
        Search only images whose metadata match: ``[(column, operator, value), …]`` joined by AND,
        or a list of such lists joined by OR; see `vfs_ops.datasets.predicates`.
    unique_by
        Column of which each value may give one hit at most, as ``"label"``. Images without a
        value stand for themselves.
    exclude_query_image
        Leave out all rows that hold the query's own image, by content digest.
    threads
        Shards that are read and scored at once; see `vfs_ops.scans.plan.plan_scan`.
    client
        A `distributed.Client` on whose workers to search. By default the active one, if there is
        one and its workers can see the cache, which they open by its URL; else threads of this
        process.
    allow_partial
        Search what is there of a cache with missing shards; the hits' provenance then says so.
    progress
        Told how many shards are done. An exception that it raises stops the search.

    Raises
    ------
    QueryError
        If an option or query cannot be used, or no image is left to search.
    ExtractorMismatchError
        If a query is of another extractor; the message names what differs.
    PredicateError
        If `where` is malformed.
    IncompleteError
        If shards are missing, and `allow_partial` is not given.
    DamagedError
        If a shard is not as it was written.
    AccessError, UnavailableError, StorageError
        As the storage or the cluster answers.

    Examples
    --------
    >>> hits = search(cache, query, k=5, where=[("label", "!=", "cat")])  # doctest: +SKIP
    >>> hits.to_frame()  # doctest: +SKIP
    >>> search(cache, queries=faces, k=20).to_frame().groupby("query")  # doctest: +SKIP
    """
    run = search_iter(
        cache,
        query,
        k,
        queries=queries,
        where=where,
        unique_by=unique_by,
        exclude_query_image=exclude_query_image,
        threads=threads,
        client=client,
        allow_partial=allow_partial,
    )
    total = len(run.plan.tasks)
    progress(Progress("search", 0, total, "shards"))
    with run:
        for partial in run:
            progress(Progress("search", partial.done, total, "shards"))
    return partial.hits


def search_iter(
    cache: Cache,
    query: Query | None = None,
    k: int = 10,
    *,
    queries: Sequence[Query] | None = None,
    where: Filters | None = None,
    unique_by: str | None = None,
    exclude_query_image: bool = True,
    threads: int | None = None,
    client: Any = None,
    allow_partial: bool = False,
) -> SearchRun:
    """Search, and show the best hits so far as shards are done.

    Parameters and errors are those of `search`. What cannot be used is refused at once, and
    reading begins with the first step of the iteration.

    Returns
    -------
    SearchRun
        Iterating over it gives a `vfs_ops.scans.run.Partial` whenever shards are done, the last of
        which holds what `search` returns. Its method `cancel` may be called from any thread.

    Examples
    --------
    >>> with search_iter(cache, query) as run:  # doctest: +SKIP
    ...     for partial in run:
    ...         show(partial.hits, partial.fraction)
    """
    ledger, limit = Ledger(cache), check_whole("k", k)
    questions = ledger.reading(lambda: Questions.of(cache, query, queries))
    count, digests = len(questions.queries), [one.digest for one in questions.queries]
    left = digests if exclude_query_image else [None] * count
    own = ledger.reading(lambda: rows_of(cache.dataset, left))
    compared = np.ones(cache.count, np.bool_)
    if count == 1:
        compared[own[0]] = False
        own = rows_of(cache.dataset, [None])
    plan = ledger.reading(
        lambda: plan_scan(
            cache,
            where=where,
            rows=compared,
            unique_by=unique_by,
            threads=threads,
            allow_partial=allow_partial,
            queries=questions.queries,
            client=client,
        )
    )
    owner = np.repeat(np.arange(count), [len(rows) for rows in own])
    left_out = np.bincount(owner[plan.is_compared(np.concatenate(own))], minlength=count).tolist()
    if max(left_out) == plan.images:
        raise QueryError(
            f"no image is left to search for query {int(np.argmax(left_out))}: the filter leaves "
            "its own image alone; widen the filter, or give exclude_query_image=False"
        )
    job = ScanJob(cache.source, cache.grid, limit, tuple(own), allow_partial)
    return SearchRun(cache, questions, plan, job, left_out, client, ledger)
