"""The job `search_batch`: many queries against one or more caches, answered in Parquet."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import catalog
from flows.jobs.clusters import check_optional_cluster, optional_client
from flows.jobs.job import Job
from flows.jobs.query_choices import QueryChoice, make_queries, read_choices
from flows.watching import Picture, Table, Watcher
from vfs_ops.errors import AccessError, QueryError
from vfs_ops.identity.canonical import canonical_json
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    import pandas

    from vfs_ops.caches.cache import Cache
    from vfs_ops.scans.hits import Hits, ManyHits

FOLDER: Final = "searches"
MOST_ROWS: Final = 1000
"""Of the table that a person is shown; the files hold all."""
_DOCUMENT: Final = "search.json"
_ELSEWHERE: Final = "elsewhere.json"


@dataclass(frozen=True)
class Searched:
    """Where the answers are."""

    id: str
    """Digest of what was asked."""
    keys: tuple[str, ...]
    """One Parquet file for each cache, in their order, in `workspace`."""
    queries: int
    """Number of queries."""
    found_before: bool
    """True if the same was asked before, so that nothing was searched."""
    workspace: str
    """URL of where the answers are."""


@dataclass(frozen=True, kw_only=True)
class SearchJob(Job):
    """Search caches for many regions in one scan each; the same question is answered once."""

    workspace: str
    """URL of the workspace."""
    caches: tuple[str, ...]
    """Names or ids of the caches."""
    queries: tuple[QueryChoice, ...] | str
    """What to look for, or the path or URL of a JSON file that lists it."""
    k: int = 10
    """Hits of each query, at most."""
    where: tuple[tuple[str, str, Any], ...] = ()
    """Conditions on the images, as ``["label", "==", "cat"]``; all must hold."""
    unique_by: str | None = None
    """Column of which each value gives one hit at most."""
    include_query_image: bool = False
    """True to find the image of the query too."""
    checkpoint: str | None = None
    """For caches made with a local checkpoint: the file."""
    cluster: str | None = None
    """Where to search: ``local``, ``cuda`` or the address of a Dask scheduler; threads of this
    process by default."""
    also: tuple[str, ...] = ()
    """URLs of other workspaces whose caches may be named too."""
    output: str | None = None
    """URL of the workspace that the answers are written to, where it is another."""
    threads: int | None = None
    """Shards that are read at once."""

    def run(self, watcher: Watcher | None = None) -> Searched:
        """Search; the answers lie below ``searches/`` of `output`, or of the workspace.

        What is asked is written first: who may not write learns it before anything is searched.

        Raises
        ------
        QueryError, RegionError, PredicateError, ImageError, NotFoundError
            If something given cannot be used.
        AccessError
            If the answers cannot be written.
        IncompleteError, DamagedError, UnavailableError, StorageError
            As the caches answer.
        InputError, ClusterError
            If the cluster cannot be used.
        """
        watcher = watcher or Watcher()
        check_optional_cluster(self.cluster)
        places = [Workspace.at(url) for url in (self.workspace, *self.also)]
        target = places[0] if self.output is None else Workspace.at(self.output)
        choices = read_choices(self.queries)
        if not self.caches:
            raise QueryError("there are no caches to search; name at least one")
        caches = watcher.stage("open", lambda: [catalog.open(name, places) for name in self.caches])
        asked = watcher.stage("read", lambda: self._document(choices, caches))
        identity = hashlib.sha256(canonical_json(asked)).hexdigest()
        folder = f"{FOLDER}/{identity}"
        keys = tuple(f"{folder}/{cache.id}.parquet" for cache in caches)
        before = all(target.exists(key) for key in keys)
        if not before:
            _begin(target, folder, asked, [c.id for c in caches if c.workspace != target])
            for name, cache, key in zip(self.caches, caches, keys, strict=True):
                self._answer(target, name, cache, choices, key, watcher)
        return Searched(identity, keys, len(choices), before, target.url)

    def _answer(
        self,
        target: Workspace,
        name: str,
        cache: Cache,
        choices: tuple[QueryChoice, ...],
        key: str,
        watcher: Watcher,
    ) -> None:
        """Search one cache and write its file, unless an earlier run has."""
        if target.exists(key):
            return
        found = watcher.stage("search", lambda: self._search(cache, choices, watcher))
        data = _parquet(found.to_frame())
        watcher.stage("write", lambda: target.create(key, data))
        rows = tuple(
            {
                "query": number,
                "hits": len(hits),
                "best score": round(float(hits.score[0]), 4) if len(hits) else None,
                "best image": int(hits.image[0]) if len(hits) else None,
            }
            for number, hits in enumerate(found)
        )
        title = f"{len(rows)} queries of {name}: {key}"
        watcher.table(Table(f"answers-{name}", title, rows[:MOST_ROWS]))
        watcher.picture(_drawing(name, found[0]))

    def _search(self, cache: Cache, choices: tuple[QueryChoice, ...], watcher: Watcher) -> ManyHits:
        from vfs_ops.caches.recipes import load_extractor
        from vfs_ops.scans.search import search

        queries = make_queries(
            cache, choices, lambda: load_extractor(cache, checkpoint=self.checkpoint)
        )
        with optional_client(self.cluster) as client:
            return search(
                cache,
                queries=queries,
                k=self.k,
                where=[*self.where] or None,
                unique_by=self.unique_by,
                exclude_query_image=not self.include_query_image,
                threads=self.threads,
                client=client,
                progress=watcher.progress,
            )

    def _document(self, choices: tuple[QueryChoice, ...], caches: list[Cache]) -> dict[str, Any]:
        """Return what is asked, without where it is asked from."""
        return {
            "kind": "search",
            "caches": [{"id": cache.id, "dataset": cache.dataset.id} for cache in caches],
            "queries": [choice.document() for choice in choices],
            "k": self.k,
            "where": [list(condition) for condition in self.where],
            "unique_by": self.unique_by,
            "include_query_image": self.include_query_image,
        }


def _begin(target: Workspace, folder: str, asked: dict[str, Any], elsewhere: list[str]) -> None:
    """Write what is asked, and that caches lie elsewhere: pruning shall not take them for gone."""
    try:
        if elsewhere:
            target.create(f"{folder}/{_ELSEWHERE}", canonical_json({"caches": elsewhere}))
        target.create(f"{folder}/{_DOCUMENT}", canonical_json(asked))
    except AccessError as error:
        raise AccessError(
            f"the answers cannot be written ({error}); give another output"
        ) from error


def _parquet(frame: pandas.DataFrame) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file, compression="zstd")
    return file.getvalue()


def _drawing(name: str, hits: Hits) -> Callable[[], Picture | None]:
    def draw() -> Picture | None:
        if not len(hits):
            return None
        file = io.BytesIO()
        hits.figure().savefig(file, format="png", dpi=80)
        title = f"The first query's answer in {name}"
        return Picture(f"first-answer-{name}", title, file.getvalue())

    return draw
