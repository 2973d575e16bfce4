"""The job `ingest_dataset`: a source of images becomes a dataset of the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import catalog
from catalog import Entry
from flows.jobs.job import Job
from flows.jobs.sources import make_source
from flows.watching import Watcher
from vfs_ops.errors import NotFoundError
from vfs_ops.identity.canonical import check_name
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.datasets.dataset import Dataset
    from vfs_ops.datasets.sources import Source


@dataclass(frozen=True, kw_only=True)
class IngestJob(Job):
    """Make a dataset of images, or bring it up to date; what has not changed is not read again."""

    workspace: str
    """URL of the workspace."""
    name: str
    """Of the dataset in the catalog."""
    source: str
    """Folder or URL of images, CSV or Parquet table, tar shard, or ``torchvision:NAME``."""
    labels: str | None = None
    """For a folder: ``folder`` (names of folders; the default) or a CSV."""
    path_column: str | None = None
    """For a table: the column of paths or URLs."""
    tars: bool = False
    """True if the source is a folder of tar shards."""
    rehash: bool = False
    """True to read all images again, even those unchanged."""
    threads: int | None = None
    """For reading and decoding; by default four more than there are processors."""

    def run(self, watcher: Watcher | None = None) -> Entry:
        """Ingest and register; returns the entry, which is the old one if nothing changed.

        Raises
        ------
        InvalidNameError, SourceError, StorageError, NotFoundError
            See `vfs_ops.datasets.ingestion.ingest`.
        """
        watcher = watcher or Watcher()
        workspace = Workspace.at(self.workspace)
        check_name(self.name)
        source = make_source(self.source, self.labels, self.path_column, self.tars)
        dataset = watcher.stage("ingest", lambda: self._ingest(workspace, source, watcher))
        flow_run = watcher.flow_run
        return watcher.stage(
            "register",
            lambda: catalog.register_dataset(workspace, self.name, dataset, flow_run=flow_run),
        )

    def _ingest(self, workspace: Workspace, source: Source, watcher: Watcher) -> Dataset:
        from vfs_ops.datasets.ingestion import ingest

        try:
            previous = catalog.open_dataset(workspace, self.name)
        except NotFoundError:
            previous = None
        return ingest(
            source,
            workspace,
            previous=previous,
            rehash=self.rehash,
            threads=self.threads,
            progress=watcher.progress,
        )
