"""What a catalog holds: its records, gathered to what they say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from catalog.entries import Entry, EntryType, entry_key
from catalog.marks import Alias, Deprecation
from catalog.records import Record, read_records
from vfs_ops.errors import VfsError
from vfs_ops.identity.canonical import check_name
from vfs_ops.store.workspace import Workspace


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
