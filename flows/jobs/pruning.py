"""The job `prune_workspace`: what no entry refers to and no build owns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import catalog
from flows.console import counted, size
from flows.jobs.job import Job
from flows.watching import Cell, Table, Watcher
from vfs_ops.errors import DamagedError
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.sharing.unused import Unused

MOST_ROWS: Final = 1000
"""Of the table that a person is shown."""


@dataclass(frozen=True)
class Pruned:
    """What was found, and what was done about it."""

    unused: tuple[Unused, ...]
    removed: tuple[Unused, ...]
    """Empty unless it was asked to remove."""
    kept: tuple[tuple[Unused, str], ...]
    """What came to be used in between, each with the reason."""
    unknown: int
    """Files that are none of ours; they are never removed."""


@dataclass(frozen=True, kw_only=True)
class PruneJob(Job):
    """List what no entry refers to and no build owns; remove it if asked to, and nothing else."""

    workspace: str
    """URL of the workspace."""
    remove: bool = False
    """True to remove what is listed."""

    def run(self, watcher: Watcher | None = None) -> Pruned:
        """List, and remove if asked to.

        Raises
        ------
        DamagedError
            If a record of the catalog cannot be read: what it refers to is not known.
        AccessError, UnavailableError, StorageError
            As the storage answers.
        """
        from vfs_ops.sharing.pruning import prune
        from vfs_ops.sharing.unused import find_unused

        watcher = watcher or Watcher()
        workspace = Workspace.at(self.workspace)
        findings = watcher.stage(
            "find",
            lambda: find_unused(workspace, referenced(workspace)),
        )
        watcher.table(_table(workspace, findings.unused))
        removed: tuple[Unused, ...] = ()
        kept: tuple[tuple[Unused, str], ...] = ()
        if self.remove and findings.unused:
            pruned = watcher.stage(
                "prune",
                lambda: prune(
                    workspace,
                    findings.unused,
                    lambda: referenced(workspace),
                    progress=watcher.progress,
                ),
            )
            removed, kept = pruned.removed, pruned.kept
        return Pruned(findings.unused, removed, kept, len(findings.unknown))


def referenced(workspace: Workspace) -> Collection[str]:
    """Return the ids of datasets and caches that any version of any entry names.

    Raises
    ------
    DamagedError
        If a record cannot be read.
    """
    contents = catalog.read_contents(workspace)
    if contents.problems:
        raise DamagedError(
            f"{counted(len(contents.problems), 'record')} of the catalog of {workspace.url} cannot "
            f"be read, so what they refer to is not known and nothing is pruned; the first: "
            f"{contents.problems[0]}"
        )
    shown = [entry.facts.get("dataset") for entry in contents.versions]
    return {
        *(entry.id for entry in contents.versions),
        *(dataset["id"] for dataset in shown if isinstance(dataset, dict)),
    }


def _table(workspace: Workspace, unused: tuple[Unused, ...]) -> Table:
    total = size(sum(found.bytes for found in unused))
    rows: tuple[Mapping[str, Cell], ...] = tuple(
        {
            "kind": found.kind,
            "key": found.key,
            "size": size(found.bytes),
            "objects": found.objects,
            "reason": found.reason,
        }
        for found in unused[:MOST_ROWS]
    )
    title = f"{counted(len(unused), 'thing')} ({total}) of {workspace.url} that nothing refers to"
    return Table("unused", title, rows)
