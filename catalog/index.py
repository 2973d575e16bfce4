"""The index: all records in one object, for servers that cannot list. Derived from the records."""

from __future__ import annotations

import contextlib

from catalog.records import (
    INDEX_KEY,
    MAX_INDEX_BYTES,
    Record,
    list_records,
    read_index,
    read_listed,
)
from vfs_ops.errors import DamagedError, NewerFormatError, TooLargeError, VfsError
from vfs_ops.identity.canonical import FORMATS, canonical_json
from vfs_ops.store.workspace import Workspace


def rebuild_index(workspace: Workspace) -> list[Record]:
    """Write the index of all records, unless it stands so already; returns the records.

    After writing, records and index are read again, until the index that is stored is that of the
    records that are listed. So of several writers at once, whoever wrote last has seen, after its
    write, all records that were there; and a record that came later has a writer who is still to
    look. A writer that is killed between a stale write and its second look leaves an index that
    lacks records: readers who can list do not rely on it, and the next registration mends it.

    Records that cannot be read are left out; those of a newer format are taken over as they are.

    Raises
    ------
    NewerFormatError
        If the index is of a newer format, which this version must not write over.
    TooLargeError
        If it would be larger than readers take; the old one stays.
    StorageError
        If the storage fails.
    """
    while True:
        records = read_listed(workspace, list_records(workspace))
        documents = {
            record.key: dict(record.document)
            for record in records
            if record.document is not None
            and (not isinstance(record.found, VfsError) or _is_newer(record.found))
        }
        with contextlib.suppress(DamagedError):  # an index is derived, so it is written anew
            if read_index(workspace) == documents:
                return records
        index = {"kind": "index", "format": FORMATS["index"], "records": documents}
        data = canonical_json(index)
        if len(data) > MAX_INDEX_BYTES:
            raise TooLargeError(
                f"the index of {workspace.url} would have {len(data):,} bytes, and no reader takes "
                f"more than {MAX_INDEX_BYTES:,}; begin another workspace: several are searched as "
                "one"
            )
        workspace.replace(INDEX_KEY, data)


def _is_newer(error: VfsError) -> bool:
    return isinstance(error, NewerFormatError)
