"""Find entries by name or id, and open what they name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from catalog.entries import Entry, EntryType
from catalog.records import Record, read_records
from vfs_ops.canonical import check_name, is_id
from vfs_ops.errors import DamagedError, InvalidNameError, NotFoundError, QueryError, VfsError
from vfs_ops.storage import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches import Cache
    from vfs_ops.datasets import Dataset

_SHORTEST_PREFIX = 6


@dataclass(frozen=True)
class Contents:
    """What a catalog holds."""

    entries: tuple[Entry, ...]
    """The newest version of every name, datasets before caches, by name; a name whose newest
    version cannot be read is not among them."""
    problems: tuple[VfsError, ...]
    """Why records, of whatever version, cannot be read; each names the record."""


def read_contents(workspace: Workspace) -> Contents:
    """Read the whole catalog; what cannot be read is told beside what can.

    Raises
    ------
    StorageError
        If the catalog cannot be listed.
    DamagedError, NewerFormatError
        If the workspace cannot be listed, and its index cannot be read.
    """
    records = read_records(workspace)
    newest = {record.key.rpartition("/")[0]: record.entry for record in records}
    return Contents(
        tuple(entry for entry in newest.values() if entry is not None),
        tuple(record.found for record in records if isinstance(record.found, VfsError)),
    )


def list_entries(workspace: Workspace, kind: EntryType | None = None) -> list[Entry]:
    """List the entries that can be read; see `read_contents`, which also tells of the others.

    Parameters
    ----------
    kind
        ``dataset`` or ``cache``; both if not given.
    """
    return [entry for entry in read_contents(workspace).entries if kind in (None, entry.type)]


def find(workspace: Workspace, reference: str, kind: EntryType | None = None) -> Entry:
    """Find one entry. By name, only the records of that name are read.

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
    DamagedError, NewerFormatError, StorageError
        If the entry of that name cannot be read.
    """
    kinds = get_args(EntryType) if kind is None else (kind,)
    named = [record for each in kinds if (record := _newest(workspace, each, reference))]
    if len(named) > 1:
        raise QueryError(
            f"{reference!r} is the name of a dataset and of a cache; say which is meant: "
            "kind 'dataset' or 'cache' (`vfs show --kind`)"
        )
    if named:
        if isinstance(named[0].found, VfsError):
            raise named[0].found
        return named[0].found
    records = read_records(workspace, kind)
    entries = [record.entry for record in records if record.entry is not None]
    found = [entry for entry in entries if entry.id.startswith(reference)]
    if not found or len(reference) < _SHORTEST_PREFIX:
        raise NotFoundError(
            f"no {kind or 'dataset or cache'} {reference[:80]!r} in the catalog of {workspace.url}"
            + _hint(reference, entries, len(records) - len(entries))
        )
    if len({(entry.type, entry.id) for entry in found}) > 1:
        shown = ", ".join(sorted({f"{entry.type} {entry.name}" for entry in found}))
        raise QueryError(f"{reference!r} fits {shown}; give more digits or the full name")
    return found[-1]


def list_versions(workspace: Workspace, kind: EntryType, name: str) -> list[Entry]:
    """List the versions of one name that can be read, oldest first; empty if there are none.

    Raises
    ------
    InvalidNameError
        If the name cannot be one.
    """
    records = read_records(workspace, kind, check_name(name))
    return [record.entry for record in records if record.entry is not None]


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


def _newest(workspace: Workspace, kind: EntryType, reference: str) -> Record | None:
    """Return the record of ``name`` or ``name@version``."""
    name, _, version = reference.partition("@")
    try:
        records = read_records(workspace, kind, check_name(name))
    except InvalidNameError:
        return None
    if version:
        records = [record for record in records if str(record.version) == version]
    return records[-1] if records else None


def _hint(reference: str, entries: list[Entry], unreadable: int) -> str:
    names = sorted({entry.name for entry in entries})
    close = difflib.get_close_matches(reference.partition("@")[0][:200], names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else "; `vfs ls` lists what is"
    return hint + (f" ({unreadable} of its records cannot be read)" if unreadable else "")
