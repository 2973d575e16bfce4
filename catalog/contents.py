"""What a catalog holds: its records, gathered to what they say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from catalog.entries import Entry, EntryType, entry_key
from catalog.marks import Alias, AnyMark, Deprecation, Mark
from catalog.records import Record, read_records
from vfs_ops.errors import NameTakenError, VfsError
from vfs_ops.identity.canonical import check_name
from vfs_ops.store.workspace import Workspace


@dataclass(frozen=True)
class Contents:
    """What a catalog holds."""

    entries: tuple[Entry, ...]
    """What `latest` means of every name, datasets before caches, by name; a name whose last
    version cannot be read is not among them."""
    problems: tuple[VfsError, ...]
    """Why records, of whatever version, cannot be read; each names the record."""
    versions: tuple[Entry, ...]
    """Every version that can be read."""
    aliases: Mapping[tuple[EntryType, str], Mapping[str, Alias]]
    """By type and name: the aliases in force."""
    deprecations: Mapping[str, Deprecation]
    """By the key of the entry."""

    def in_force(self, mark: AnyMark) -> AnyMark | None:
        """Return the mark that says now what another one would say anew."""
        if isinstance(mark, Alias):
            found: Mark | None = self.aliases.get((mark.type, mark.name), {}).get(mark.alias)
        else:
            found = self.deprecations.get(entry_key(mark.type, mark.name, mark.version))
        return cast("AnyMark | None", found)


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
    named: dict[tuple[EntryType, str], list[Record]] = {}
    versions, problems = [], []
    aliases: dict[tuple[EntryType, str], dict[str, Alias]] = {}
    deprecations: dict[str, Deprecation] = {}
    for record in records:
        found = record.found
        mark, kind, name, _ = record.place
        if mark == "entry" and name:
            named.setdefault((kind, name), []).append(record)
        if isinstance(found, Entry):
            versions.append(found)
        elif isinstance(found, Alias):
            aliases.setdefault((kind, name), {})[found.alias] = found
        elif isinstance(found, Deprecation):
            deprecations[entry_key(kind, name, found.version)] = found
        else:
            problems.append(found)
    latest = (latest_of(own).found for own in named.values())
    entries = tuple(found for found in latest if isinstance(found, Entry))
    return Contents(entries, tuple(problems), tuple(versions), aliases, deprecations)


def latest_of(records: Sequence[Record]) -> Record:
    """Return the record that a name alone means: that of the highest `Entry.rank`.

    Parameters
    ----------
    records
        Those of the entries of one name, in their order; at least one. If the last of them cannot
        be read, it is the one: nobody knows what it would come after. Those set aside do not count.
    """
    counting = [r for r in records if not isinstance(r.found, NameTakenError)]
    records = counting or records
    ranks = [(r.found.rank, r) for r in records if isinstance(r.found, Entry)]
    if records[-1] is not (ranks[-1][1] if ranks else None):
        return records[-1]
    return max(ranks, key=lambda ranked: ranked[0])[1]


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
