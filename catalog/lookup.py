"""Find one entry by name or id, in one catalog or several as one."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, get_args

from catalog.contents import Contents, contents_of, latest_of, read_contents
from catalog.entries import Entry, EntryType
from catalog.marks import LATEST, Deprecation
from catalog.records import Record, read_records
from vfs_ops.errors import InvalidNameError, NotFoundError, QueryError
from vfs_ops.identity.canonical import check_name
from vfs_ops.store.workspace import Workspace

SHORTEST_PREFIX: Final = 6
"""Fewest digits of an id that are taken for it."""

Workspaces = Workspace | str | Iterable[Workspace | str]
"""One workspace or several, as such or as URLs or paths."""


class DeprecatedWarning(UserWarning):
    """What was opened is deprecated; the message says why, and what to use instead."""


@dataclass(frozen=True)
class Located:
    """An entry, and where it was found."""

    workspace: Workspace
    entry: Entry
    deprecation: Deprecation | None

    def warn(self) -> None:
        """Warn whoever uses a deprecated entry."""
        if self.deprecation is not None:
            warnings.warn(self.deprecation.sentence(), DeprecatedWarning, stacklevel=3)


def as_workspaces(workspaces: Workspaces | None) -> list[Workspace]:
    """Return the workspaces that are meant: by default ``$VFS_WORKSPACE``, else ``vfs-workspace``.

    Raises
    ------
    QueryError
        If none is given.
    InvalidUrlError
        If a URL cannot be that of a workspace.
    """
    if workspaces is None:
        workspaces = os.environ.get("VFS_WORKSPACE") or "vfs-workspace"
    if isinstance(workspaces, Workspace | str):
        workspaces = [workspaces]
    found = [each if isinstance(each, Workspace) else Workspace.at(each) for each in workspaces]
    if not found:
        raise QueryError("no workspace is given; give one or more, as URLs or paths")
    return list(dict.fromkeys(found))


def find(workspace: Workspace, reference: str, kind: EntryType | None = None) -> Entry:
    """Find one entry.

    Parameters
    ----------
    reference
        A name or ``name@latest`` (its newest version; of a cache, that of the newest version of its
        dataset), ``name@3`` (that version),
        ``name@team-default`` (where that alias stands now), an id, or the first six or more digits
        of one.
    kind
        ``dataset`` or ``cache``; both are looked through if not given.

    Raises
    ------
    NotFoundError
        If there is none; close names are suggested.
    QueryError
        If the reference fits more than one.
    DamagedError, NewerFormatError, StorageError
        If the entry of that name cannot be read.
    """
    return _locate(workspace, reference, kind).entry


def locate(workspaces: Workspaces | None, reference: str, kind: EntryType | None = None) -> Located:
    """Find one entry in several catalogs, and say where it lies; see `find`.

    Where several hold the same dataset or cache under the reference, the first of them counts.

    Raises
    ------
    NotFoundError
        If none holds it.
    QueryError
        If the reference means different things in different catalogs.
    """
    found, missing = [], []
    for workspace in as_workspaces(workspaces):
        try:
            found.append(_locate(workspace, reference, kind))
        except NotFoundError as error:
            missing.append(error)
    if not found:
        raise missing[0] if len(missing) == 1 else NotFoundError("; ".join(map(str, missing)))
    if len({(each.entry.type, each.entry.id) for each in found}) > 1:
        places = ", ".join(
            f"{each.entry.id[:12]} ({each.entry.type}) in {each.workspace.url}" for each in found
        )
        raise QueryError(
            f"{reference[:80]!r} means different things in these catalogs: {places}; give the id, "
            "or one workspace"
        )
    return found[0]


def _locate(workspace: Workspace, reference: str, kind: EntryType | None) -> Located:
    name, _, tail = reference.partition("@")
    try:
        records = read_records(workspace, kind, check_name(name))
    except InvalidNameError:
        records = []
    contents = contents_of(records)
    kinds = get_args(EntryType) if kind is None else (kind,)
    named = [found for each in kinds if (found := _named(records, contents, each, name, tail))]
    if len(named) > 1:
        raise QueryError(
            f"{reference!r} is the name of a dataset and of a cache; say which is meant: "
            "kind 'dataset' or 'cache' (`vfs show --kind`)"
        )
    if named:
        if not isinstance(named[0].found, Entry):
            raise named[0].found  # type: ignore[misc]  # a record of an entry, or why it is none
        entry = named[0].found
        return Located(workspace, entry, contents.deprecations.get(entry.key))
    return _locate_id(workspace, reference, kind)


def _named(
    records: list[Record], contents: Contents, kind: EntryType, name: str, tail: str
) -> Record | None:
    """Return the record of ``name``, ``name@version`` or ``name@alias``."""
    own = [record for record in records if record.place[:3] == ("entry", kind, name)]
    alias = contents.aliases.get((kind, name), {}).get(tail)
    if tail not in ("", LATEST):
        wanted = tail if alias is None else str(alias.version)
        own = [record for record in own if str(record.place[3]) == wanted]
    return latest_of(own) if own else None


def _locate_id(workspace: Workspace, reference: str, kind: EntryType | None) -> Located:
    contents = read_contents(workspace)
    entries = [entry for entry in contents.versions if kind in (None, entry.type)]
    found = [entry for entry in entries if entry.id.startswith(reference)]
    if not found or len(reference) < SHORTEST_PREFIX:
        raise NotFoundError(
            f"no {kind or 'dataset or cache'} {reference[:80]!r} in the catalog of {workspace.url}"
            + _hint(reference, kind, contents)
        )
    if len({(entry.type, entry.id) for entry in found}) > 1:
        shown = ", ".join(sorted({f"{entry.type} {entry.name}" for entry in found}))
        raise QueryError(f"{reference!r} fits {shown}; give more digits or the full name")
    return Located(workspace, found[-1], contents.deprecations.get(found[-1].key))


def _hint(reference: str, kind: EntryType | None, contents: Contents) -> str:
    name, _, tail = reference.partition("@")
    same = [entry for entry in contents.versions if entry.name == name]
    own = [entry for entry in same if kind in (None, entry.type)]
    names = sorted({entry.name for entry in contents.versions if kind in (None, entry.type)})
    close = difflib.get_close_matches(name[:200], names, n=3, cutoff=0.5)
    if tail and own:
        versions = [str(entry.version) for entry in own[-10:]]
        hint = f"; it has {', '.join([*versions, *contents.aliases.get((own[0].type, name), {})])}"
    elif same:
        hint = f"; there is a {same[0].type} of that name: kind {same[0].type!r}"
    elif close:
        hint = f"; did you mean {' or '.join(close)}?"
    else:
        hint = "; `vfs ls` lists what is"
    unreadable = len(contents.problems)
    return hint + (f" ({unreadable} of its records cannot be read)" if unreadable else "")
