"""Removing from a workspace what nothing refers to, as far as it was listed and is still unused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from vfs_ops.builds import claims
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.sharing.unused import Unused, datasets_of, files_below, is_claimed, searched
from vfs_ops.store.file_stats import FileStat
from vfs_ops.store.workspace import Workspace

References = Callable[[], Collection[str]]


@dataclass(frozen=True)
class Pruned:
    """What was removed, and what was not."""

    removed: tuple[Unused, ...]
    kept: tuple[tuple[Unused, str], ...]
    """What came to be used after it was listed, each with the reason."""
    bytes: int
    """Bytes that were freed."""


def prune(
    workspace: Workspace,
    unused: Collection[Unused],
    referenced: References,
    *,
    progress: ProgressCallback = silent,
) -> Pruned:
    """Remove what `find_unused` listed, and of that only what is as it was listed.

    Right before something is removed, entries, claims and its objects are looked at again. What
    makes a cache or a dataset exist for readers goes first, receipts before the shards they speak
    of, so that one who is killed in the middle leaves something unfinished, never something broken.
    If meanwhile somebody referred to it, it is made to exist again.

    Parameters
    ----------
    workspace
        Where they were found.
    unused
        What to remove.
    referenced
        Returns the ids of all datasets and caches that entries name now.
    progress
        Told how many of them were looked at.

    Raises
    ------
    AccessError, UnavailableError, StorageError
        As the storage answers; what was not reached stays.
    """
    removed, kept = [], []
    for done, found in enumerate(unused, 1):
        reason = _remove(workspace, found, referenced)
        if reason is None:
            removed.append(found)
        else:
            kept.append((found, reason))
        progress(Progress("prune", done, len(unused), "folders and files"))
    return Pruned(tuple(removed), tuple(kept), sum(found.bytes for found in removed))


def _remove(workspace: Workspace, found: Unused, referenced: References) -> str | None:
    """Remove one thing; return why not, if it was left."""
    if found.kind == "temporary":
        return _remove_temporary(workspace, found)
    if found.kind == "cache":
        # seen by builders, who would else take what is being removed for finished
        with claims.held(workspace, [_id(found)]) as held:
            if held.others:
                return f"claimed by {held.others[0]}"
            return _remove_folder(workspace, found, referenced, owners=1)
    return _remove_folder(workspace, found, referenced, owners=0)


def _remove_temporary(workspace: Workspace, found: Unused) -> str | None:
    if list(found.files) != [stat for stat in workspace.abandoned() if stat.path == found.key]:
        return "it has changed"
    workspace.delete_abandoned(found.key)
    return None


def _remove_folder(
    workspace: Workspace, found: Unused, referenced: References, owners: int
) -> str | None:
    if sorted(found.files, key=_path) != files_below(workspace, found.kind, found.key):
        return "it has changed since it was listed"
    if (reason := _in_use(workspace, found, referenced, owners)) is not None:
        return reason
    first, *others = _in_order(found)
    if first:
        key = first[0]
        commit = workspace.read_optional(key)
        workspace.delete_objects(first)
        reason = _in_use(workspace, found, referenced, owners)
        if reason is not None and commit is not None:
            workspace.create(key, commit)
            return reason
    for keys in others:
        workspace.delete_objects(keys)
    return None


def _in_use(workspace: Workspace, found: Unused, referenced: References, owners: int) -> str | None:
    name = _id(found)
    if found.kind in ("cache", "dataset") and name in referenced():
        return "an entry names it now"
    if found.kind == "dataset" and name in datasets_of(workspace, workspace.names("caches")):
        return "a cache was built for it"
    if found.kind == "cache" and len(claims.active(workspace, name)) > owners:
        return "somebody is building it"
    if found.kind == "search" and not searched(found.files).isdisjoint(workspace.names("caches")):
        return "a cache of it is here again"
    if found.kind == "claim" and is_claimed(workspace, name):
        return "somebody is building its cache"
    return None


def _in_order(found: Unused) -> Iterator[list[str]]:
    """Yield groups of keys: what makes it exist, what says what is finished, all else, its plan."""
    keys = [stat.path for stat in found.files]
    commits = [
        key for key in keys if key.endswith(("/complete.json", "/dataset.json", "/search.json"))
    ]
    receipts = [key for key in keys if "/receipts" in key]
    plans = [key for key in keys if key.endswith(("/plan.json", "/cache.json"))]
    others = {*keys} - {*commits, *receipts, *plans}
    yield from (commits, receipts, sorted(others), plans)


def _id(found: Unused) -> str:
    return found.key.rpartition("/")[2]


def _path(stat: FileStat) -> str:
    return stat.path
