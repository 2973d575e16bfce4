"""The job `build_caches`: plan, build (which verifies before it commits), register."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import catalog
from catalog import Entry
from flows.cache_names import cache_names
from flows.jobs.build_stage import BuildStage, PreparedBuild
from flows.jobs.build_tables import plan_table
from flows.jobs.clusters import LazyCluster
from flows.jobs.ingestion import IngestJob
from flows.jobs.job import Job
from flows.jobs.sources import make_source
from flows.patience import doing
from flows.watching import Watcher
from vfs_ops.errors import InputError
from vfs_ops.sizes import parse_size
from vfs_ops.store.urls import LOCAL_PROTOCOLS
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.builds.reports import NoticeCallback
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
    quota: str | None = None
    """Bytes that the build may write at most, as ``200GiB``; what the disk has by default."""
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
        self._check()
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
        prepared = watcher.stage("plan", lambda: self.prepare(watcher.note))
        watcher.table(plan_table(prepared.dataset_name, prepared.names, prepared.planned))
        stage = BuildStage(
            Workspace.at(self.workspace),
            prepared,
            watcher,
            named=self.name is not None,
            flow_run=watcher.flow_run,
        )
        with self._cluster(prepared) as cluster:
            watcher.stage("build", lambda: self._build(stage, cluster))
        entries = tuple(stage.entries[planned.spec.id] for planned in prepared.planned)
        return Built(entries, stage.computed)

    def check_capacity(self, prepared: PreparedBuild) -> None:
        """Refuse what cannot fit where it would be computed, as the build itself does.

        Raises
        ------
        TooLargeError, StorageFullError
            See `vfs_ops.builds.builder.check_capacity`.
        ClusterError
            If the cluster cannot be reached.
        """
        with self._cluster(prepared) as cluster:
            cluster.check_capacity(prepared.planned, prepared.dataset.workspace, self._quota())

    def prepare(self, on_notice: NoticeCallback | None = None) -> PreparedBuild:
        """Find the dataset, load the models and plan; writes nothing.

        Parameters
        ----------
        on_notice
            If given, finished caches that lack something are made unfinished first, of which it is
            told: so the plan counts that, and where it is computed is known.

        Raises
        ------
        NotFoundError, UnknownModelError, NotAFeatureMapError, InvalidNameError, SourceError
            If something given cannot be used.
        """
        workspace = Workspace.at(self.workspace)
        entry = catalog.find(workspace, self.dataset, "dataset")
        dataset = catalog.open_dataset(workspace, self.dataset)
        extractors = tuple(self._load(choice) for choice in self.extractors)
        from vfs_ops.builds.builder import plan_build
        from vfs_ops.builds.repair import mend_finished

        names = cache_names(
            workspace,
            entry.name,
            [spec for extractor in extractors for spec in extractor.specs],
            precision=self.precision,
            dtype=self.dtype,
            name=self.name,
        )
        images = self.place()
        if on_notice is not None and self.check == "sizes":  # "digests" are for the workers
            mend_finished(
                *(dataset, extractors),
                workspace=workspace,
                dtype=self.dtype,
                images=images,
                check=self.check,
                client=None,
                on_notice=on_notice,
            )
        planned = plan_build(dataset, extractors, dtype=self.dtype, images=images)
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

    def _load(self, choice: ExtractorChoice) -> FeatureExtractor:
        with doing(f"loading {choice.model}"):  # the first one brings torch
            from vfs_ops.models.extract import FeatureExtractor
            from vfs_ops.models.loading import load_model

            loaded = load_model(choice.model, weights=choice.weights, checkpoint=choice.checkpoint)
            return FeatureExtractor(
                loaded, choice.layers, precision=self.precision, device=self.device
            )

    def _build(self, stage: BuildStage, cluster: LazyCluster) -> None:
        from vfs_ops.builds.builder import build

        # It plans again: by now others may have built, a retry goes on from what is there, and the
        # threads that workers compute with are known only with the cluster.
        compute = partial(
            build,
            stage.prepared.dataset,
            stage.prepared.extractors,
            dtype=self.dtype,
            images=self.place(),
            threads=self.threads,
            check=None if self.check == "sizes" else self.check,  # see prepare
            quota=self._quota(),
        )
        with cluster.client() as client:
            stage.attempt(client, compute)

    def _cluster(self, prepared: PreparedBuild) -> LazyCluster:
        every = self.check == "digests"
        return LazyCluster(self.cluster, self.workers, prepared.planned, all_read=every)

    def _check(self) -> None:
        """Refuse what can be refused before anything is read."""
        from vfs_ops.builds.clusters import check_cluster

        check_cluster(self.cluster, workers=self.workers)
        self._quota()
        if self.source is None and (self.tars or self.labels or self.path_column):
            raise InputError("labels, path_column and tars are of a source; give that too")

    def _quota(self) -> int | None:
        return None if self.quota is None else parse_size(self.quota)
