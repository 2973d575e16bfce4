"""Find entries by name or id, and open what they name."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, get_args

from catalog.entries import INDEX_KEY, Entry, EntryType, entry_folder
from vfs_ops.canonical import check_format, check_name, is_id, parse_json
from vfs_ops.errors import DamagedError, NotFoundError, QueryError
from vfs_ops.storage import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches import Cache
    from vfs_ops.datasets import Dataset

_SHORTEST_PREFIX = 6


def list_entries(workspace: Workspace, kind: EntryType | None = None) -> list[Entry]:
    """List the newest version of every entry, datasets before caches, by name.

    Parameters
    ----------
    kind
        ``dataset`` or ``cache``; both if not given.

    Raises
    ------
    DamagedError, NewerFormatError
        If a record cannot be used.
    """
    newest = {(entry.type, entry.name): entry for entry in list_records(workspace)}
    return [entry for entry in newest.values() if kind in (None, entry.type)]


def find(workspace: Workspace, reference: str, kind: EntryType | None = None) -> Entry:
    """Find one entry.

    Parameters
    ----------
    reference
        A name (its newest version), ``name@3`` (that version), an id, or the first six or more
        digits of one.
    kind
        ``dataset`` or ``cache``; both are looked through if not given.

    Raises
    ------
    NotFoundError
        If there is none; close names are suggested.
    QueryError
        If the reference fits more than one.
    """
    records = [entry for entry in list_records(workspace) if kind in (None, entry.type)]
    name, _, version = reference.partition("@")
    found = [entry for entry in records if entry.name == name]
    if version:
        found = [entry for entry in found if str(entry.version) == version]
    if not found and len(reference) >= _SHORTEST_PREFIX:
        found = [entry for entry in records if entry.id.startswith(reference)]
    if not found:
        noun = kind or "dataset or cache"
        names = sorted({entry.name for entry in records})
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; `vfs ls` lists what is"
        raise NotFoundError(f"no {noun} {reference[:80]!r} in the catalog of {workspace.url}{hint}")
    targets = {(entry.type, entry.id) for entry in found if entry.name != name}
    kinds = {entry.type for entry in found}
    if len(targets) > 1 or len(kinds) > 1:
        shown = ", ".join(sorted({f"{entry.type} {entry.name}" for entry in found}))
        raise QueryError(f"{reference!r} fits {shown}; give more digits or the full name")
    return found[-1]


def open_dataset(workspace: Workspace, reference: str) -> Dataset:
    """Open a dataset by name or id; see `find`."""
    from vfs_ops import datasets

    return datasets.open_dataset(workspace, find(workspace, reference, "dataset").id)


def open_cache(workspace: Workspace, reference: str) -> Cache:
    """Open a cache by name or id, with the labels and metadata its entry names.

    Raises
    ------
    NotFoundError, QueryError
        See `find`.
    IncompleteError, DamagedError, UnsafeMetadataError, NewerFormatError
        See `vfs_ops.caches.open_cache`.
    """
    from vfs_ops import caches, datasets

    try:
        entry = find(workspace, reference, "cache")
    except NotFoundError:
        if is_id(reference):  # perhaps not finished, or never registered
            return caches.open_cache(workspace, reference)
        raise
    dataset = entry.facts.get("dataset")
    if not isinstance(dataset, dict) or not isinstance(dataset.get("id"), str):
        raise DamagedError(f"the entry of cache {entry.name} names no dataset; register it again")
    return caches.open_cache(workspace, entry.id, datasets.open_dataset(workspace, dataset["id"]))


def list_records(workspace: Workspace) -> list[Entry]:
    """Read every version of every entry; from the index where the workspace cannot list."""
    if not workspace.writable:
        return _read_index(workspace)
    return [
        entry
        for kind in get_args(EntryType)
        for name in workspace.names(entry_folder(kind))
        for entry in versions_of(workspace, kind, name)
    ]


def versions_of(workspace: Workspace, kind: EntryType, name: str) -> list[Entry]:
    """Read all versions of one entry, oldest first."""
    folder = entry_folder(kind, check_name(name))
    entries = []
    for file in workspace.names(folder):
        entry = Entry.from_document(parse_json(workspace.read(f"{folder}/{file}"), file))
        if entry.key != f"{folder}/{file}":
            raise DamagedError(f"{folder}/{file} holds the entry of {entry.key}; register it again")
        entries.append(entry)
    return entries


def _read_index(workspace: Workspace) -> list[Entry]:
    data = workspace.read_optional(INDEX_KEY)
    if data is None:
        return []
    document = parse_json(data, INDEX_KEY)
    check_format(document, INDEX_KEY)
    entries = document.get("entries")
    if not isinstance(entries, list):
        raise DamagedError(f"{INDEX_KEY} of {workspace.url} has no entries; publish it again")
    return [Entry.from_document(entry) for entry in entries]
