"""Records as they lie on the store, read one by one: a bad or newer one harms no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, get_args

from catalog.entries import INDEX_KEY, Entry, EntryType, entry_folder, entry_key
from vfs_ops.canonical import canonical_json, check_format, check_name, parse_json
from vfs_ops.errors import DamagedError, InvalidNameError, SpecError, UnavailableError, VfsError
from vfs_ops.storage import Workspace

_FILE: Final = re.compile(r"[0-9]{5}\.json")


@dataclass(frozen=True)
class Record:
    """What was found at one place of the catalog: an entry, or why it cannot be read."""

    key: str
    """Where it lies."""
    document: dict[str, Any] | None
    """As stored, newer formats included; None if it is no JSON that could be stored again."""
    found: Entry | VfsError

    @property
    def entry(self) -> Entry | None:
        """The entry, if it can be read."""
        return self.found if isinstance(self.found, Entry) else None

    @property
    def version(self) -> int:
        """Its number, from its key."""
        return int(self.key[-10:-5])


def read_records(
    workspace: Workspace, kind: EntryType | None = None, name: str | None = None
) -> list[Record]:
    """Read all records, of one kind, or of one name; from the index where nothing can be listed.

    Returns
    -------
    list of Record
        Datasets before caches, by name and version. Files that are not named as records are
        passed over.

    Raises
    ------
    UnavailableError, StorageError
        If the catalog cannot be listed.
    DamagedError, NewerFormatError
        If the index is needed and cannot be read.
    """
    kinds = get_args(EntryType) if kind is None else (kind,)
    if not workspace.writable:
        folders = tuple(f"{entry_folder(wanted, name or '')}/" for wanted in kinds)
        everything = kind is None and name is None
        return [
            record for record in _indexed(workspace) if everything or record.key.startswith(folders)
        ]
    return [
        record
        for wanted in kinds
        for folder in ([name] if name else workspace.names(entry_folder(wanted)))
        for record in _stored(workspace, wanted, folder)
    ]


def read_index(workspace: Workspace) -> list[Any] | None:
    """Read the documents of the index; None where there is no index.

    Raises
    ------
    DamagedError, NewerFormatError
        If it cannot be read.
    """
    data = workspace.read_optional(INDEX_KEY)
    if data is None:
        return None
    document = parse_json(data, INDEX_KEY)
    check_format(document, "index", INDEX_KEY)
    entries = document.get("entries")
    if not isinstance(entries, list):
        raise DamagedError(f"{INDEX_KEY} of {workspace.url} has no entries; register one again")
    return entries


def _stored(workspace: Workspace, kind: EntryType, name: str) -> Iterator[Record]:
    try:
        folder = entry_folder(kind, check_name(name))
    except InvalidNameError as error:
        yield Record(f"{entry_folder(kind)}/{name}", None, error)
        return
    for file in workspace.names(folder):
        if _FILE.fullmatch(file):
            yield _read(workspace, f"{folder}/{file}")


def _read(workspace: Workspace, key: str) -> Record:
    try:
        document = parse_json(workspace.read(key), key)
    except UnavailableError:  # of the storage, not of this record
        raise
    except VfsError as error:
        return Record(key, None, error)
    return _record(key, document)


def _indexed(workspace: Workspace) -> list[Record]:
    records = []
    for number, document in enumerate(read_index(workspace) or []):
        key = f"{INDEX_KEY}#{number}"
        if isinstance(document, dict):
            name, version = document.get("name"), document.get("version")
            for kind in get_args(EntryType):
                if document.get("type") == kind and isinstance(name, str) and type(version) is int:
                    key = entry_key(kind, name, version)
        records.append(_record(key, document))
    return sorted(records, key=lambda record: (record.key.startswith("catalog/c"), record.key))


def _record(key: str, document: Any) -> Record:
    try:
        canonical_json(document)
    except SpecError as error:
        return Record(key, None, DamagedError(f"{key} is no entry: {error}"))
    try:
        entry = Entry.from_document(document, key)
    except VfsError as error:
        return Record(key, document, error)
    if entry.key != key:
        moved = DamagedError(f"{key} holds the entry of {entry.key}; register it again")
        return Record(key, None, moved)
    return Record(key, document, entry)
