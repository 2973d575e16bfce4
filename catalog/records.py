"""Records as they lie on the store, read one by one: a bad or newer one harms no other.

Where the workspace can be listed, the listing says which records there are, and the index saves
reading each of them: its copy of a record is taken if that has the size which is listed. So a
stale, damaged or missing index costs requests, and never hides a record. Where nothing can be
listed, the index is all there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from catalog.entries import Entry, EntryType
from catalog.marks import Alias, Deprecation
from vfs_ops.errors import (
    AccessError,
    DamagedError,
    ForbiddenError,
    NameTakenError,
    NewerFormatError,
    NotFoundError,
    SpecError,
    UnavailableError,
    VfsError,
)
from vfs_ops.identity.canonical import canonical_json, check_format, parse_json
from vfs_ops.store.file_stats import FileStat
from vfs_ops.store.urls import LOCAL_PROTOCOLS
from vfs_ops.store.workspace import Workspace

INDEX_KEY: Final = "catalog/index.json"
MAX_RECORD_BYTES: Final = 1 << 20
"""No record is read that is larger."""
MAX_INDEX_BYTES: Final = 1 << 27
"""No index is read or written that is larger: some 60,000 records of 2 kB."""

_KEY: Final = re.compile(
    r"catalog/(?:(?P<mark>aliases|deprecations)/)?(?P<type>dataset|cache)s/"
    r"(?P<name>[a-z0-9][a-z0-9._-]{0,127})/(?P<number>[0-9]{5})\.json"
)
_READERS: Final[dict[str | None, Callable[[object, str], Entry | Alias | Deprecation]]] = {
    None: Entry.from_document,
    Alias.folder: Alias.from_document,
    Deprecation.folder: Deprecation.from_document,
}
_AT_ONCE: Final = 16


@dataclass(frozen=True)
class Record:
    """What was found at one place of the catalog: an entry or mark, or why it cannot be read."""

    key: str
    """Where it lies."""
    document: Mapping[str, Any] | None
    """As stored, newer formats included; None if it is no JSON that could be stored again."""
    found: Entry | Alias | Deprecation | VfsError

    @property
    def place(self) -> tuple[str, EntryType, str, int]:
        """``entry``, ``aliases`` or ``deprecations``; type; name; number. From the key."""
        parts = _KEY.fullmatch(self.key)
        if parts is None:
            return "entry", "cache", "", 0
        kind: EntryType = "dataset" if parts["type"] == "dataset" else "cache"
        return parts["mark"] or "entry", kind, parts["name"], int(parts["number"])


def read_records(
    workspace: Workspace,
    kind: EntryType | None = None,
    name: str | None = None,
    *,
    all_listed: bool = False,
) -> list[Record]:
    """Read all records; or those of one kind, or of one name.

    Parameters
    ----------
    workspace, kind, name
        Which.
    all_listed
        True for who is about to write: what the index says is not enough then.

    Returns
    -------
    list of Record
        Entries, then aliases, then deprecations; in each, datasets before caches, by name and
        number. Files that are not named as records are passed over. A version of a cache's name
        that stands for something else than the first has a `NameTakenError` in place of the entry.

    Raises
    ------
    UnavailableError, StorageError
        If the storage fails.
    DamagedError, NewerFormatError
        If nothing can be listed, and the index cannot be read.
    AccessError
        If `all_listed` is given, and the workspace refuses to be listed.
    """
    if name is not None and workspace.writable and workspace.protocol in LOCAL_PROTOCOLS:
        kinds: tuple[EntryType, ...] = ("dataset", "cache") if kind is None else (kind,)
        stats = [stat for each in kinds for stat in _walk_name(workspace, each, name)]
        return _gathered(_read_listed(workspace, stats, {}))
    records = _read_all(workspace, all_listed)
    return [
        record
        for record in records
        if kind in (None, record.place[1]) and name in (None, record.place[2])
    ]


def read_index(workspace: Workspace) -> dict[str, Any] | None:
    """Read the documents of the index, by key; None where there is no index.

    Raises
    ------
    DamagedError, NewerFormatError
        If it cannot be read.
    """
    try:
        data = workspace.read(INDEX_KEY, most=MAX_INDEX_BYTES)
    except (NotFoundError, ForbiddenError):  # what a public bucket answers for what is not there
        return None
    document = parse_json(data, f"{INDEX_KEY} of {workspace.url}")
    check_format(document, "index", f"{INDEX_KEY} of {workspace.url}")
    records = document.get("records")
    if not isinstance(records, dict):
        raise DamagedError(f"{INDEX_KEY} of {workspace.url} has no records; register one again")
    return records


def list_records(workspace: Workspace) -> list[FileStat]:
    """List the records that there are.

    Raises
    ------
    AccessError
        If the workspace refuses to be listed.
    """
    return [stat for stat in workspace.walk("catalog") if _KEY.fullmatch(stat.path)]


def read_listed(workspace: Workspace, stats: Iterable[FileStat]) -> list[Record]:
    """Read records from a listing, those that the index holds from there."""
    try:
        index = read_index(workspace) or {}
    except (DamagedError, NewerFormatError):  # the records themselves are there to be read
        index = {}
    return _gathered(_read_listed(workspace, list(stats), index))


def _read_all(workspace: Workspace, all_listed: bool) -> list[Record]:
    refused: AccessError | None = None
    if workspace.writable:
        try:
            return read_listed(workspace, list_records(workspace))
        except AccessError as error:  # a public bucket may refuse it, and is read like https
            refused = error
    if all_listed and refused is not None:  # who may not write at all is told when writing
        raise AccessError(
            f"{workspace.url} cannot be listed, and who writes to its catalog must see all records "
            "that there are; ask for the permission to list it (s3:ListBucket)"
        ) from refused
    documents = read_index(workspace)
    if documents is None and refused is not None:
        raise refused
    return _gathered([_parsed(key, document) for key, document in (documents or {}).items()])


def _walk_name(workspace: Workspace, kind: EntryType, name: str) -> list[FileStat]:
    folders = [
        f"catalog/{kind}s/{name}",
        *(mark.place(kind, name) for mark in (Alias, Deprecation)),
    ]
    return [s for folder in folders for s in workspace.walk(folder) if _KEY.fullmatch(s.path)]


def _read_listed(
    workspace: Workspace, stats: list[FileStat], index: Mapping[str, Any]
) -> list[Record]:
    found: dict[str, Record] = {}
    missing = []
    for stat in stats:
        document = index.get(stat.path)
        try:
            known = document is not None and len(canonical_json(document)) == stat.size
        except SpecError:
            known = False
        if known:
            found[stat.path] = _parsed(stat.path, document)
        else:
            missing.append(stat)
    if workspace.protocol in LOCAL_PROTOCOLS or len(missing) < 2:
        records = [_read(workspace, stat) for stat in missing]
    else:
        with ThreadPoolExecutor(min(_AT_ONCE, len(missing)), "vfs-catalog") as pool:
            records = list(pool.map(lambda stat: _read(workspace, stat), missing))
    return [*found.values(), *records]


def _read(workspace: Workspace, stat: FileStat) -> Record:
    if stat.size > MAX_RECORD_BYTES:
        error = f"{stat.path} has {stat.size} bytes; a record has {MAX_RECORD_BYTES} at most"
        return Record(stat.path, None, DamagedError(f"{error}; register it again"))
    try:
        document = parse_json(workspace.read(stat.path, most=MAX_RECORD_BYTES), stat.path)
    except UnavailableError:  # of the storage, not of this record
        raise
    except VfsError as error:
        return Record(stat.path, None, error)
    return _parsed(stat.path, document)


def _parsed(key: str, document: Any) -> Record:
    parts = _KEY.fullmatch(key)
    if parts is None:
        return Record(key, None, DamagedError(f"{key[:200]!r} is no place of a record"))
    try:
        canonical_json(document)
    except SpecError as error:
        return Record(key, None, DamagedError(f"{key} is no entry: {error}"))
    try:
        found = _READERS[parts["mark"]](document, key)
    except VfsError as error:
        return Record(key, document, error)
    if found.key != key:
        moved = DamagedError(f"{key} holds the record of {found.key}; register it again")
        return Record(key, None, moved)
    return Record(key, document, found)


def _gathered(records: Iterable[Record]) -> list[Record]:
    """Sort records, and set aside the versions of a name that stand for something else.

    Two who write different numbers of one name at the same time do not see each other. What the
    lowest number says counts then, for all readers alike.
    """
    order = {"entry": 0, "aliases": 1, "deprecations": 2}

    def place(record: Record) -> tuple[int, bool, str, int]:
        mark, kind, name, number = record.place
        return order[mark], kind == "cache", name, number

    first: dict[tuple[str, str], Entry] = {}
    gathered = []
    for record in sorted(records, key=place):
        entry = record.found
        if isinstance(entry, Entry):
            known = first.setdefault((entry.type, entry.name), entry)
            if known.stands_for != entry.stands_for:
                record = replace(record, found=_set_aside(entry, known))
        gathered.append(record)
    return gathered


def _set_aside(entry: Entry, known: Entry) -> NameTakenError:
    return NameTakenError(
        f"{entry.key} is set aside: {known.reference} stands for a cache of another dataset, "
        "extractor, precision or dtype, and a name keeps its meaning; register it under another "
        "name"
    )
