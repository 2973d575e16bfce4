"""The job `build_caches`: plan, build (which verifies before it commits), register."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import catalog
from catalog import Entry
from catalog.opening import opening_lines
from flows.cache_names import cache_names, register
from flows.console import counted
from flows.first_search import first_search
from flows.jobs.build_tables import plan_table, shard_table
from flows.jobs.clusters import LazyCluster
from flows.jobs.ingestion import IngestJob
from flows.jobs.job import Job
from flows.jobs.sources import make_source
from flows.watching import Code, Picture, Watcher
from vfs_ops.errors import InputError
from vfs_ops.store.urls import LOCAL_PROTOCOLS
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.builds.builder import PlannedCache
    from vfs_ops.builds.reports import ShardReport
    from vfs_ops.caches.cache import Cache
    from vfs_ops.datasets.dataset import Dataset
    from vfs_ops.models.extract import FeatureExtractor


@dataclass(frozen=True, kw_only=True)
class ExtractorChoice:
    """One model, and the layers of it that a pass over the images serves."""

    model: str
    """``efficientnet-lite0``, ``torchvision:NAME``, ``timm:NAME``."""
    layers: tuple[str, ...]
    """As `vfs layers` lists them."""
    weights: str | None = None
    """The library's name of the weights, or ``random:SEED``; its best by default."""
    checkpoint: str | None = None
    """File with the model's weights, on the machine that runs the flow."""


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


@dataclass(frozen=True)
class Built:
    """What a build came to."""

    entries: tuple[Entry, ...]
    """Of the caches, by extractor, then by layer."""
    computed_shards: int
    """Shards that this run computed; 0 if all was there."""


@dataclass(frozen=True, kw_only=True)
class BuildJob(Job):
    """Compute and keep the feature maps of a dataset; what exists is not computed again."""

    workspace: str
    """URL of the workspace."""
    dataset: str
    """Name of the dataset in the catalog."""
    extractors: tuple[ExtractorChoice, ...]
    """Models and layers."""
    name: str | None = None
    """Of the cache in the catalog, for a single layer; else made of dataset, model and layer."""
    dtype: Literal["float16", "float32"] = "float16"
    """How features are stored."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """How the models compute."""
    device: str | None = None
    """As ``cpu`` or ``cuda:0``; a GPU if there is one."""
    images: str | None = None
    """Where the images are now, if neither in `source` nor where they were ingested from."""
    source: str | None = None
    """If given, it is ingested first as `dataset`, so that new images are built too."""
    labels: str | None = None
    """Of `source`, as `ingest_dataset` was given it: other labels make another version."""
    path_column: str | None = None
    """Of `source`, as `ingest_dataset` was given it."""
    tars: bool = False
    """Of `source`, as `ingest_dataset` was given it."""
    cluster: str = "local"
    """``local`` (processes on this machine), ``cuda`` (one for each GPU), or the address of a Dask
    scheduler."""
    workers: int | None = None
    """Processes of a local cluster."""
    threads: int | None = None
    """Decoding threads of a worker."""
    check: Literal["sizes", "digests"] = "sizes"
    """How finished caches are looked at first: ``sizes`` finds what is missing or cut off, and
    ``digests`` reads them, to repair what `verify_cache` finds."""

    def run(self, watcher: Watcher | None = None) -> Built:
        """Plan, build and register; nothing is committed that was not verified.

        Each cache is registered as soon as it is committed, before the next model is begun.

        Raises
        ------
        NotFoundError, UnknownModelError, InvalidNameError, TooLargeError, StorageFullError
            Before anything is computed.
        DamagedError
            If what is built is again and again not what the model computes.
        ClusterError, UnavailableError, StorageError
            Run again to go on.
        """
        watcher = watcher or Watcher()
        if self.source is not None:
            IngestJob(
                workspace=self.workspace,
                name=self.dataset,
                source=self.source,
                labels=self.labels,
                path_column=self.path_column,
                tars=self.tars,
                threads=self.threads,
            ).run(watcher)
        elif self.tars or (self.labels, self.path_column) != (None, None):
            raise InputError("labels, path_column and tars are of a source; give that too")
        prepared = watcher.stage("plan", self.prepare)
        watcher.table(plan_table(prepared.dataset_name, prepared.names, prepared.planned))
        with LazyCluster(
            self.cluster, self.workers, prepared.planned, all_read=self.check == "digests"
        ) as cluster:
            work = _Work(self, prepared, watcher, cluster, watcher.flow_run)
            watcher.stage("build", work.build)
        entries = tuple(work.entries[planned.spec.id] for planned in prepared.planned)
        return Built(entries, work.computed)

    def prepare(self) -> PreparedBuild:
        """Find the dataset, load the models and plan; writes nothing.

        Raises
        ------
        NotFoundError, UnknownModelError, NotAFeatureMapError, InvalidNameError, SourceError
            If something given cannot be used.
        """
        workspace = Workspace.at(self.workspace)
        entry = catalog.find(workspace, self.dataset, "dataset")
        from vfs_ops.builds.builder import plan_build
        from vfs_ops.models.extract import FeatureExtractor
        from vfs_ops.models.loading import load_model

        dataset = catalog.open_dataset(workspace, self.dataset)
        extractors = tuple(
            FeatureExtractor(
                load_model(choice.model, weights=choice.weights, checkpoint=choice.checkpoint),
                choice.layers,
                precision=self.precision,
                device=self.device,
            )
            for choice in self.extractors
        )
        names = cache_names(
            workspace,
            entry.name,
            [spec for extractor in extractors for spec in extractor.specs],
            precision=self.precision,
            dtype=self.dtype,
            name=self.name,
        )
        planned = plan_build(dataset, extractors, dtype=self.dtype, images=self.place())
        return PreparedBuild(entry.name, dataset, extractors, tuple(planned), tuple(names))

    def place(self) -> object:
        """Return where the images are, as `vfs_ops.datasets.dataset.Dataset.reader` takes it."""
        from vfs_ops.datasets.source_kinds import TORCHVISION, as_source

        if self.images is not None:
            return as_source(self.images) if self.images.startswith(TORCHVISION) else self.images
        if self.source is not None and Workspace.at(self.workspace).protocol not in LOCAL_PROTOCOLS:
            # a workspace that others see does not tell of a folder of this machine
            return make_source(self.source, self.labels, self.path_column, self.tars)
        return None


@dataclass
class _Work:
    """The stage that computes, and what it tells."""

    job: BuildJob
    prepared: PreparedBuild
    watcher: Watcher
    cluster: LazyCluster
    flow_run: str | None
    computed: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    """Of the caches that are whole, by cache id."""
    reports: list[ShardReport] = field(default_factory=list)

    def build(self) -> list[Cache]:
        """Build and register all caches, and show which shard took how long, and where."""
        from vfs_ops.builds.builder import build

        self.reports.clear()
        try:
            with self.cluster.client() as client:
                return build(
                    self.prepared.dataset,
                    self.prepared.extractors,
                    dtype=self.job.dtype,
                    images=self.job.place(),
                    threads=self.job.threads,
                    client=client,
                    check=self.job.check,
                    progress=self.watcher.progress,
                    on_shard=self._finished,
                    on_notice=self.watcher.note,
                    on_commit=self._register,
                )
        finally:
            if self.reports:
                names = self._names()
                self.watcher.table(shard_table(self.prepared.dataset_name, names, self.reports))

    def _finished(self, report: ShardReport) -> None:
        self.reports.append(report)
        self.computed += report.action != "copied"

    def _register(self, cache: Cache) -> None:
        """Write the entry of a cache that is whole, and show what is new."""
        if cache.id in self.entries:
            return  # by an earlier attempt
        workspace, name = Workspace.at(self.job.workspace), self._names()[cache.id]
        entry = register(
            workspace,
            name,
            cache,
            dataset=self.prepared.dataset_name,
            given=self.job.name is not None,
            flow_run=self.flow_run,
        )
        self.entries[cache.id] = entry
        if any(cache.id == each.spec.id and not each.complete for each in self.prepared.planned):
            self.watcher.code(_opening(entry, workspace))
            self.watcher.picture(_drawing(cache, entry.name))

    def _names(self) -> dict[str, str]:
        """Return the caches' names by their ids."""
        return {
            planned.spec.id: name
            for planned, name in zip(self.prepared.planned, self.prepared.names, strict=True)
        }


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
