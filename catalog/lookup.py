"""Find entries by name or id, in one catalog or several as one, and open what they name."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

from catalog.entries import Entry, EntryType, entry_key
from catalog.marks import LATEST, Alias, Deprecation
from catalog.records import Record, read_records
from vfs_ops.canonical import check_name, is_id
from vfs_ops.errors import InvalidNameError, NotFoundError, QueryError, VfsError
from vfs_ops.storage import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches import Cache
    from vfs_ops.datasets import Dataset

SHORTEST_PREFIX: Final = 6
"""Fewest digits of an id that are taken for it."""

Workspaces = Workspace | str | Iterable[Workspace | str]
"""One workspace or several, as such or as URLs or paths."""


class DeprecatedWarning(UserWarning):
    """What was opened is deprecated; the message says why, and what to use instead."""


@dataclass(frozen=True)
class Contents:
    """What a catalog holds."""

    entries: tuple[Entry, ...]
    """The newest version of every name, datasets before caches, by name; a name whose newest
    version cannot be read is not among them."""
    problems: tuple[VfsError, ...]
    """Why records, of whatever version, cannot be read; each names the record."""
    versions: tuple[Entry, ...]
    """Every version that can be read."""
    aliases: Mapping[tuple[EntryType, str], Mapping[str, Alias]]
    """By type and name: the aliases in force."""
    deprecations: Mapping[str, Deprecation]
    """By the key of the entry."""


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


def read_contents(workspace: Workspace) -> Contents:
    """Read the whole catalog; what cannot be read is told beside what can.

    Raises
    ------
    StorageError
        If the storage fails.
    DamagedError, NewerFormatError
        If the workspace cannot be listed, and its index cannot be read.
    """
    return contents_of(read_records(workspace))


def contents_of(records: Iterable[Record]) -> Contents:
    """Gather records, in their order, to what they say together."""
    newest: dict[tuple[EntryType, str], Entry | None] = {}
    versions, problems = [], []
    aliases: dict[tuple[EntryType, str], dict[str, Alias]] = {}
    deprecations: dict[str, Deprecation] = {}
    for record in records:
        found = record.found
        mark, kind, name, _ = record.place
        if mark == "entry" and name:
            newest[kind, name] = found if isinstance(found, Entry) else None
        if isinstance(found, Entry):
            versions.append(found)
        elif isinstance(found, Alias):
            aliases.setdefault((kind, name), {})[found.alias] = found
        elif isinstance(found, Deprecation):
            deprecations[entry_key(kind, name, found.version)] = found
        else:
            problems.append(found)
    entries = tuple(entry for entry in newest.values() if entry is not None)
    return Contents(entries, tuple(problems), tuple(versions), aliases, deprecations)


def list_entries(workspace: Workspace, kind: EntryType | None = None) -> list[Entry]:
    """List the entries that can be read; see `read_contents`, which also tells of the others.

    Parameters
    ----------
    kind
        ``dataset`` or ``cache``; both if not given.
    """
    return [entry for entry in read_contents(workspace).entries if kind in (None, entry.type)]


def list_versions(workspace: Workspace, kind: EntryType, name: str) -> list[Entry]:
    """List the versions of one name that can be read, oldest first; empty if there are none.

    Raises
    ------
    InvalidNameError
        If the name cannot be one.
    """
    return list(contents_of(read_records(workspace, kind, check_name(name))).versions)


def find(workspace: Workspace, reference: str, kind: EntryType | None = None) -> Entry:
    """Find one entry.

    Parameters
    ----------
    reference
        A name or ``name@latest`` (its newest version), ``name@3`` (that version),
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


def open_dataset(workspace: Workspace, reference: str) -> Dataset:
    """Open a dataset by name or id; see `find`."""
    from vfs_ops import datasets

    located = _locate(workspace, reference, "dataset")
    located.warn()
    return datasets.open_dataset(workspace, located.entry.id)


def open_cache(workspace: Workspace, reference: str) -> Cache:
    """Open a cache by name or id, with the labels and metadata its entry names.

    Raises
    ------
    NotFoundError, QueryError
        See `find`.
    IncompleteError, DamagedError, UnsafeMetadataError, NewerFormatError
        See `vfs_ops.caches.open_cache`.
    """
    return open_reference(reference, workspace)


def open_reference(reference: str, workspaces: Workspaces | None = None) -> Cache:
    """Open a cache by name or id, in one catalog or several: ``catalog.open``.

    Parameters
    ----------
    reference
        See `find`.
    workspaces
        Where to look; ``$VFS_WORKSPACE``, else the folder ``vfs-workspace``, by default.

    Warns
    -----
    DeprecatedWarning
        If the entry is deprecated, naming its successor.

    Raises
    ------
    NotFoundError, QueryError
        See `locate`.
    IncompleteError, DamagedError, UnsafeMetadataError, NewerFormatError
        See `vfs_ops.caches.open_cache`.

    Examples
    --------
    >>> catalog.open("photos-resnet50-layer4@team-default")             # doctest: +SKIP
    >>> catalog.open("photos-resnet50-layer4", ["s3://team", "https://public.example/vfs"])
    ... # doctest: +SKIP
    """
    from vfs_ops import caches, datasets

    places = as_workspaces(workspaces)
    try:
        located = locate(places, reference, "cache")
    except NotFoundError:
        if is_id(reference) and len(places) == 1:  # perhaps not finished, or never registered
            return caches.open_cache(places[0], reference)
        raise
    located.warn()
    workspace, entry = located.workspace, located.entry
    dataset = datasets.open_dataset(workspace, entry.facts["dataset"]["id"])
    return caches.open_cache(workspace, entry.id, dataset)


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
    return own[-1] if own else None


def _locate_id(workspace: Workspace, reference: str, kind: EntryType | None) -> Located:
    contents = read_contents(workspace)
    entries = [entry for entry in contents.versions if kind in (None, entry.type)]
    found = [entry for entry in entries if entry.id.startswith(reference)]
    if not found or len(reference) < SHORTEST_PREFIX:
        raise NotFoundError(
            f"no {kind or 'dataset or cache'} {reference[:80]!r} in the catalog of {workspace.url}"
            + _hint(reference, entries, len(contents.problems))
        )
    if len({(entry.type, entry.id) for entry in found}) > 1:
        shown = ", ".join(sorted({f"{entry.type} {entry.name}" for entry in found}))
        raise QueryError(f"{reference!r} fits {shown}; give more digits or the full name")
    return Located(workspace, found[-1], contents.deprecations.get(found[-1].key))


def _hint(reference: str, entries: list[Entry], unreadable: int) -> str:
    names = sorted({entry.name for entry in entries})
    close = difflib.get_close_matches(reference.partition("@")[0][:200], names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else "; `vfs ls` lists what is"
    return hint + (f" ({unreadable} of its records cannot be read)" if unreadable else "")
