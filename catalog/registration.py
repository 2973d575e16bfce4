"""Write entries: numbered records, created and never changed, and the index derived from them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from catalog.entries import INDEX_KEY, Entry, EntryType
from catalog.records import read_index, read_records
from vfs_ops.canonical import FORMATS, canonical_json, check_name
from vfs_ops.errors import DamagedError, NewerFormatError
from vfs_ops.storage import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches import Cache
    from vfs_ops.datasets import Dataset


def register_dataset(workspace: Workspace, name: str, dataset: Dataset) -> Entry:
    """Register a dataset under a name; nothing is written if its newest version says the same.

    Raises
    ------
    InvalidNameError
        If the name cannot be one.
    """
    facts = {
        "images": dataset.count,
        "unreadable": dataset.count - dataset.table(["error"])["error"].null_count,
        "images_id": dataset.images_id,
        "columns": dataset.column_names(),
    }
    return _register(workspace, "dataset", name, dataset.id, facts)


def register_cache(workspace: Workspace, name: str, cache: Cache, *, dataset_name: str) -> Entry:
    """Register a cache under a name; nothing is written if its newest version says the same.

    Raises
    ------
    InvalidNameError
        If the name cannot be one.
    """
    plan, extractor = cache.plan, cache.spec.extractor
    height, width = extractor.preprocessing.input_size
    facts = {
        "dataset": {"name": check_name(dataset_name), "id": cache.dataset.id},
        "images": cache.count,
        "unreadable": len(cache.invalid),
        "model": extractor.model,
        "weights": plan.weights,
        "weights_fingerprint": extractor.weights,
        "layer": extractor.layer,
        "extractor_id": extractor.id,
        "grid": list(plan.grid),
        "channels": plan.channels,
        "stride": [height / plan.grid[0], width / plan.grid[1]],
        "input_size": [height, width],
        "precision": cache.spec.precision,
        "dtype": cache.spec.dtype,
        "origin": cache.spec.origin,
        "shards": plan.shard_count,
        "bytes": cache.feature_bytes,
        "versions": dict(plan.versions),
    }
    return _register(workspace, "cache", name, cache.id, facts)


def _register(
    workspace: Workspace, kind: EntryType, name: str, identity: str, facts: Mapping[str, Any]
) -> Entry:
    check_name(name)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    while True:
        known = read_records(workspace, kind, name)
        newest = known[-1].entry if known else None
        if newest is not None and (newest.id, newest.facts) == (identity, facts):
            _complete_index(workspace)  # whoever wrote the record may have been killed before
            return newest
        version = known[-1].version + 1 if known else 1
        entry = Entry(kind, name, version, identity, created, facts)
        if workspace.create(entry.key, entry.encode()):
            _complete_index(workspace)
            return entry


def _complete_index(workspace: Workspace) -> None:
    """Write the index of all records, for servers that cannot list, unless it stands so already.

    After writing, records and index are read again: if another registration came between, one of
    the two writers sees both records and writes the index that has them. Records of a newer format
    are taken over as they are.
    """
    while True:
        documents = [
            record.document
            for record in read_records(workspace)
            if record.document is not None
            and (record.entry is not None or isinstance(record.found, NewerFormatError))
        ]
        with contextlib.suppress(DamagedError):  # an index is derived, so it is written anew
            if read_index(workspace) == documents:
                return
        index = {"kind": "index", "format": FORMATS["index"], "entries": documents}
        workspace.replace(INDEX_KEY, canonical_json(index))
