"""The stage of a build that computes: what it tells meanwhile, and the entries it writes."""

from __future__ import annotations

import heapq
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from catalog import Entry
from catalog.opening import opening_lines
from flows.cache_names import register
from flows.console import counted
from flows.first_search import first_search
from flows.jobs.build_tables import shard_table
from flows.watching import Code, Picture, Watcher
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

    from vfs_ops.builds.builder import CacheCallback, PlannedCache
    from vfs_ops.builds.reports import NoticeCallback, ShardCallback, ShardReport
    from vfs_ops.caches.cache import Cache
    from vfs_ops.datasets.dataset import Dataset
    from vfs_ops.models.extract import FeatureExtractor
    from vfs_ops.progress import ProgressCallback

MOST_SHARDS: Final = 1000
"""Rows of the table of shards; of more, the slowest are shown."""


@dataclass(frozen=True)
class PreparedBuild:
    """What is known before anything is computed."""

    dataset_name: str
    """In the catalog."""
    dataset: Dataset
    extractors: tuple[FeatureExtractor, ...]
    planned: tuple[PlannedCache, ...]
    """By extractor, then by layer."""
    names: tuple[str, ...]
    """Of the planned caches in the catalog."""


class Compute(Protocol):
    """`vfs_ops.builds.builder.build` of one job."""

    def __call__(
        self,
        *,
        client: Client | None,
        progress: ProgressCallback,
        on_shard: ShardCallback,
        on_notice: NoticeCallback,
        on_commit: CacheCallback,
    ) -> object:
        """Build; see there."""


@dataclass
class BuildStage:
    """One build, which may be attempted several times."""

    workspace: Workspace
    prepared: PreparedBuild
    watcher: Watcher
    named: bool
    """Whether a person gave the name of the cache."""
    flow_run: str | None
    """Id of the flow run that the build is part of."""
    computed: int = 0
    """Shards that were computed, in all attempts."""
    entries: dict[str, Entry] = field(default_factory=dict)
    """Of the caches that are whole, by cache id."""

    def attempt(self, client: Client | None, compute: Compute) -> None:
        """Build and register all caches, and show which shard took how long, and where.

        Parameters
        ----------
        client
            Of the cluster that computes; this process does if None.
        compute
            Builds.
        """
        slowest = Slowest()

        def finished(report: ShardReport) -> None:
            slowest.add(report)
            self.computed += report.action != "copied"

        try:
            compute(
                client=client,
                progress=self.watcher.progress,
                on_shard=finished,
                on_notice=self.watcher.note,
                on_commit=self._register,
            )
        finally:
            if slowest.count:
                table = shard_table(
                    self.prepared.dataset_name, self._names(), slowest.reports(), slowest.count
                )
                self.watcher.table(table)

    def _register(self, cache: Cache) -> None:
        """Write the entry of a cache that is whole, and show it if it is new."""
        name, shown_before = self._names()[cache.id], cache.id in self.entries
        entry = register(
            self.workspace,
            name,
            cache,
            dataset=self.prepared.dataset_name,
            given=self.named,
            flow_run=self.flow_run,
        )
        self.entries[cache.id] = entry
        new = {planned.spec.id for planned in self.prepared.planned if not planned.complete}
        if cache.id in new and not shown_before:
            self.watcher.code(_opening(entry, self.workspace))
            self.watcher.picture(_drawing(cache, entry.name))

    def _names(self) -> dict[str, str]:
        """Return the caches' names by their ids."""
        return {
            planned.spec.id: name
            for planned, name in zip(self.prepared.planned, self.prepared.names, strict=True)
        }


class Slowest:
    """The shards that took longest, of any number."""

    def __init__(self) -> None:
        self.count = 0
        """Of all that were added."""
        self._heap: list[tuple[float, int, ShardReport]] = []

    def add(self, report: ShardReport) -> None:
        """Keep the report if it is among the slowest."""
        self.count += 1
        item = (report.seconds, -self.count, report)
        if len(self._heap) < MOST_SHARDS:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    def reports(self) -> list[ShardReport]:
        """Return the slowest, the slowest first; of equals, those that were added first."""
        return [report for _, _, report in sorted(self._heap, reverse=True)]


def _opening(entry: Entry, workspace: Workspace) -> Code:
    return Code(
        f"open-{entry.name}",
        f"How to open {entry.name}, {counted(entry.facts['images'], 'image')} of "
        f"{entry.facts['layer']} of {entry.facts['model']}",
        opening_lines(entry.reference, workspace.url),
    )


def _drawing(cache: Cache, name: str) -> Callable[[], Picture | None]:
    """Return what draws the first search on a new cache."""

    def draw() -> Picture | None:
        hits = first_search(cache)
        if hits is None:
            return None
        file = io.BytesIO()
        hits.figure().savefig(file, format="png", dpi=80)
        return Picture(
            f"first-search-{name}",
            f"The middle of the first image, and what {name} finds similar to it",
            file.getvalue(),
        )

    return draw
