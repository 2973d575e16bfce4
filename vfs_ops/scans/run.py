"""A search on its way: what it has found so far, how far it is, and how to stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import numpy as np

from vfs_ops.caches.cache import Cache
from vfs_ops.errors import QueryError
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.topk import Best
from vfs_ops.scans.cluster_runs import run_on_cluster
from vfs_ops.scans.clusters import cluster_of
from vfs_ops.scans.hits import Hits, ManyHits
from vfs_ops.scans.plan import ScanPlan
from vfs_ops.scans.provenance import Ledger, Provenance, counted
from vfs_ops.scans.queries import Query
from vfs_ops.scans.runners import run_in_memory, run_on_threads
from vfs_ops.scans.tasks import ScanJob, ShardResult, merged


@dataclass(frozen=True, eq=False)
class Questions:
    """What a search looks for, and whether the caller gave one query or a list."""

    queries: tuple[Query, ...]
    many: bool

    @classmethod
    def of(cls, cache: Cache, query: Query | None, queries: Sequence[Query] | None) -> Self:
        """Check what is to be searched for.

        Raises
        ------
        QueryError
            If there is not either one query or a list of them, or one is larger than the grid.
        ExtractorMismatchError
            If one is of another extractor than the cache.
        """
        if query is not None and queries is not None:
            raise QueryError("both a query and queries=[…] are given; give one of them")
        if queries is not None and not isinstance(queries, Iterable):
            raise QueryError(
                f"queries is a {type(queries).__name__}; expected a list of queries; one query is "
                "given as query"
            )
        given: tuple[Any, ...] = (query,) if queries is None else tuple(queries)
        if not given:
            raise QueryError("queries is empty; expected one at least")
        for number, one in enumerate(given):
            if not isinstance(one, Query):
                raise QueryError(
                    f"query {number} is a {type(one).__name__}; expected what query_from_image or "
                    "query_from_row returned"
                )
            one.check_matches(cache)
            down, across = one.pattern.offsets(cache.grid)
            if down < 1 or across < 1:
                (high, wide), (rows, columns) = one.pattern.size, cache.grid
                raise QueryError(
                    f"the region of query {number} covers {high} × {wide} cells; the cache's "
                    f"feature maps have {rows} × {columns}; make the query with the cache's own "
                    "extractor"
                )
        return cls(given, queries is not None)

    @property
    def patterns(self) -> list[Pattern]:
        """The queries in the form that scores are computed from."""
        return [query.pattern for query in self.queries]


def shard_results(
    cache: Cache,
    job: ScanJob,
    patterns: Sequence[Pattern],
    plan: ScanPlan,
    client: Any = None,
    floors: Callable[[], Sequence[float]] | None = None,
    stop: threading.Event | None = None,
) -> Generator[list[ShardResult]]:
    """Run a scan where it belongs: on the given or active cluster, else on threads.

    A cache in memory is searched by this process.

    Raises
    ------
    QueryError
        If a cluster is given for a cache that only this process can see.
    """
    client = cluster_of(cache, client)
    lowest = [-np.inf] * len(patterns)
    asked = (lambda: lowest) if floors is None else floors
    stop = stop or threading.Event()
    if cache.resident:
        return run_in_memory(job, patterns, plan, asked, stop)
    if client is None:
        return run_on_threads(job, patterns, plan, asked, stop)
    return run_on_cluster(client, job, patterns, plan, asked, stop)


def executor_name(cache: Cache, plan: ScanPlan, client: Any) -> str:
    """Return what runs a scan, in words."""
    client = cluster_of(cache, client)
    if client is None:
        return f"{plan.threads} thread{'' if plan.threads == 1 else 's'}"
    return f"cluster {client.scheduler.address}"


@dataclass(frozen=True, eq=False)
class Partial:
    """The best hits of the shards that are done. The last one of a search is its answer."""

    done: int
    """Shards finished, missing ones included."""
    total: int
    """Shards to search."""
    best: tuple[Best, ...]
    """For each query."""
    provenance: Provenance
    """What was done for it; of several queries together."""
    cache: Cache
    questions: Questions
    own: tuple[int, ...]
    """For each query, how many of the images that were to be compared are its own."""

    @property
    def fraction(self) -> float:
        """Which part of the shards is done, from 0 to 1."""
        return self.done / self.total

    @property
    def complete(self) -> bool:
        """Whether all that was to be searched has been."""
        return self.provenance.complete

    @cached_property
    def hits(self) -> Hits | ManyHits:
        """The hits so far; their rows of the dataset are read, once, when this is asked for."""
        started = time.perf_counter()
        images = np.concatenate([best.image for best in self.best])
        rows, cost = counted(lambda: self.cache.dataset.rows(images.tolist()))
        whole = self.provenance.plus(cost, time.perf_counter() - started)
        ends = np.cumsum([len(best) for best in self.best]).tolist()
        answers = tuple(
            Hits(
                best.score,
                best.image,
                best.y,
                best.x,
                rows.slice(end - len(best), len(best)),
                query,
                self.cache,
                replace(whole, images_searched=max(0, whole.images_searched - own)),
            )
            for query, best, own, end in zip(
                self.questions.queries, self.best, self.own, ends, strict=True
            )
        )
        return ManyHits(answers, whole) if self.questions.many else answers[0]


class SearchRun:
    """An iterator over the best hits so far; made by `vfs_ops.scans.search.search_iter`.

    Leaving the ``with`` block, `close`, or an error stops the search within a shard.

    Parameters
    ----------
    cache, questions, plan, job, client
        What is searched, for what, how.
    own
        For each query, how many of the images that are to be compared are its own.
    ledger
        What counts what it takes, since the call.
    """

    def __init__(
        self,
        cache: Cache,
        questions: Questions,
        plan: ScanPlan,
        job: ScanJob,
        own: Sequence[int],
        client: Any,
        ledger: Ledger,
    ) -> None:
        self.plan = plan
        """What is read."""
        self._cache, self._questions, self._own, self._k = cache, questions, tuple(own), job.k or 1
        self._stop = threading.Event()
        self._ledger, self._executor = ledger, executor_name(cache, plan, client)
        self._best = tuple(Best.empty() for _ in questions.queries)
        self._results = shard_results(
            cache, job, questions.patterns, plan, client, self._floors, self._stop
        )

    def __iter__(self) -> Iterator[Partial]:
        return self

    def __next__(self) -> Partial:
        for result in next(self._results):
            self._best = merged(self._best, result.best, self._k)
            self._ledger.add(result)
        return Partial(
            done=self._ledger.done,
            total=len(self.plan.tasks),
            best=self._best,
            provenance=self._ledger.of_scan(self._executor, self.plan),
            cache=self._cache,
            questions=self._questions,
            own=self._own,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def cancel(self) -> None:
        """Stop within a shard; may be called from any thread. The iteration then ends."""
        self._stop.set()

    def close(self) -> None:
        """Stop, and wait until all threads have."""
        self._stop.set()
        self._results.close()

    def _floors(self) -> list[float]:
        return [best.floor(self._k) for best in self._best]
