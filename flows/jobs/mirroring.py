"""The job `mirror_cache`: a cache with its dataset, or a dataset alone, to another workspace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import catalog
from catalog import Entry
from flows.jobs.job import Job
from flows.watching import Watcher
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.sharing.mirroring import MirrorReport


@dataclass(frozen=True)
class Mirrored:
    """What is in the other workspace now."""

    entry: Entry
    """Of what was asked for, there."""
    copied_objects: int
    copied_bytes: int
    kept_objects: int
    """Objects that were there already."""


@dataclass(frozen=True, kw_only=True)
class MirrorJob(Job):
    """Copy a cache with its dataset and entries, or a dataset, to another workspace, verified."""

    workspace: str
    """URL of the workspace that has it."""
    target: str
    """URL of the workspace that shall have it."""
    name: str
    """Name or id of it in the catalog."""
    kind: Literal["cache", "dataset"] = "cache"
    """``dataset`` for a dataset alone; a cache comes with its own."""
    previews: bool = True
    """False to leave out the previews of images that may not be republished."""
    repair: bool = False
    """True to read again what the target has, and to replace what is damaged."""

    def run(self, watcher: Watcher | None = None) -> Mirrored:
        """Copy what the target lacks, then register; run again, it goes on where it stopped.

        Raises
        ------
        MismatchError
            If the target's catalog has something else under that name and version.
        NotFoundError, IncompleteError, PlanMismatchError, DamagedError
            See `vfs_ops.sharing.mirroring.mirror_cache`.
        AccessError, StorageFullError, UnavailableError, StorageError
            As the storages answer.
        """
        watcher = watcher or Watcher()
        source, target = Workspace.at(self.workspace), Workspace.at(self.target)
        entry = watcher.stage("find", lambda: self._find(source, target))
        reports = watcher.stage("mirror", lambda: self._copy(source, target, entry, watcher))
        copies = watcher.stage("register", lambda: catalog.copy_entries(source, target, entry))
        for notice in copies.notices:
            watcher.note(notice)
        return Mirrored(
            copies.entry,
            sum(report.copied_objects for report in reports),
            sum(report.copied_bytes for report in reports),
            max(report.kept_objects for report in reports),
        )

    def _find(self, source: Workspace, target: Workspace) -> Entry:
        """Find the entry, and refuse before anything is copied what could not be registered."""
        entry = catalog.find(source, self.name, self.kind)
        catalog.check_copies(source, target, entry)
        return entry

    def _copy(
        self, source: Workspace, target: Workspace, entry: Entry, watcher: Watcher
    ) -> list[MirrorReport]:
        from vfs_ops.sharing.mirroring import mirror_cache, mirror_dataset

        _, dataset_id = entry.meaning
        copied = [(mirror_cache, entry.id)] if entry.type == "cache" else []
        return [
            copy(
                source,
                target,
                identity,
                previews=self.previews,
                repair=self.repair,
                progress=watcher.progress,
            )
            for copy, identity in (*copied, (mirror_dataset, dataset_id))
        ]
