"""The job `mirror_cache`: a cache, its dataset and their entries, from one workspace to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import catalog
from catalog import About, Entry, Located
from catalog.marks import MOST_REASON, Deprecation
from flows.jobs.job import Job
from flows.watching import Watcher
from vfs_ops.errors import NotFoundError
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.sharing.mirroring import MirrorReport


@dataclass(frozen=True)
class Mirrored:
    """What is in the other workspace now."""

    entry: Entry
    """Of the cache, there."""
    copied_objects: int
    copied_bytes: int
    kept_objects: int
    """Objects that were there already."""


@dataclass(frozen=True, kw_only=True)
class MirrorJob(Job):
    """Copy a cache with its dataset and entries to another workspace, verified by digests."""

    workspace: str
    """URL of the workspace that has the cache."""
    target: str
    """URL of the workspace that shall have it."""
    cache: str
    """Name or id of the cache in the catalog."""
    previews: bool = True
    """False to leave out the previews of images that may not be republished."""
    repair: bool = False
    """True to read again what the target has, and to replace what is damaged."""

    def run(self, watcher: Watcher | None = None) -> Mirrored:
        """Copy what the target lacks, then register; run again, it goes on where it stopped.

        Raises
        ------
        NotFoundError, IncompleteError, PlanMismatchError, DamagedError
            See `vfs_ops.sharing.mirroring.mirror_cache`.
        AccessError, StorageFullError, UnavailableError, StorageError
            As the storages answer.
        """
        from vfs_ops.sharing.mirroring import mirror_cache, mirror_dataset

        watcher = watcher or Watcher()
        source, target = Workspace.at(self.workspace), Workspace.at(self.target)
        located = watcher.stage("find", lambda: catalog.locate(source, self.cache, "cache"))
        entry = located.entry
        dataset_id = entry.facts["dataset"]["id"]
        reports: list[MirrorReport] = watcher.stage(
            "mirror",
            lambda: [
                copy(
                    source,
                    target,
                    identity,
                    previews=self.previews,
                    repair=self.repair,
                    progress=watcher.progress,
                )
                for copy, identity in ((mirror_cache, entry.id), (mirror_dataset, dataset_id))
            ],
        )
        registered = watcher.stage("register", lambda: _register(source, target, located))
        return Mirrored(
            registered,
            sum(report.copied_objects for report in reports),
            sum(report.copied_bytes for report in reports),
            max(report.kept_objects for report in reports),
        )


def _register(source: Workspace, target: Workspace, located: Located) -> Entry:
    """Write the entries of a cache and its dataset as they are in the source."""
    from vfs_ops.caches.cache import open_cache
    from vfs_ops.datasets.dataset import open_dataset

    entry = located.entry
    shown = entry.facts["dataset"]
    dataset = open_dataset(target, shown["id"])
    of_dataset = [
        other
        for other in catalog.list_versions(source, "dataset", shown["name"])
        if other.id == dataset.id
    ]
    for other in of_dataset[-1:]:
        catalog.register_dataset(
            target, other.name, dataset, about=About.of(other.about), **_built(other)
        )
    registered = catalog.register_cache(
        target,
        entry.name,
        open_cache(target, entry.id, dataset),
        dataset_name=shown["name"],
        about=About.of(entry.about),
        **_built(entry),
    )
    if located.deprecation is not None:
        _deprecate(target, registered, located.deprecation, _successor(source, target, located))
    return registered


def _deprecate(
    target: Workspace, copy: Entry, said: Deprecation, successor: Entry | None
) -> Deprecation:
    reason, follows = said.reason, None
    if successor is not None and successor.reference != copy.reference:
        follows = successor.reference
    elif said.successor is not None:
        reason = f"{reason} (its successor {said.successor} is not here)"[:MOST_REASON]
    return catalog.deprecate(target, "cache", copy.reference, reason=reason, successor=follows)


def _successor(source: Workspace, target: Workspace, located: Located) -> Entry | None:
    """Return the entry in the target of the cache that succeeds another; None without one."""
    if located.deprecation is None or located.deprecation.successor is None:
        return None
    try:
        original = catalog.find(source, located.deprecation.successor, "cache")
        return catalog.find(target, original.id, "cache")
    except NotFoundError:
        return None


def _built(entry: Entry) -> dict[str, str | None]:
    """Return who registered it, and in which flow run, to be said again."""
    return {"built_by": entry.built.get("by"), "flow_run": entry.built.get("flow_run")}
