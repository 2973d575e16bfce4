"""Write entries: numbered records, created and never changed, and the index derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from catalog.entries import INDEX_KEY, Entry, EntryType
from catalog.lookup import list_records, versions_of
from vfs_ops.canonical import FORMAT_VERSION, canonical_json, check_name
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
        known = versions_of(workspace, kind, name)
        if known and (known[-1].id, dict(known[-1].facts)) == (identity, dict(facts)):
            return known[-1]
        version = known[-1].version + 1 if known else 1
        entry = Entry(kind, name, version, identity, created, facts)
        if workspace.create(entry.key, entry.encode()):
            _write_index(workspace)
            return entry


def _write_index(workspace: Workspace) -> None:
    """Write the index of all records, for servers that cannot list.

    After writing, the records are listed again: if another registration came between, one of the
    two writers sees both records and writes the index that has them.
    """
    while True:
        entries = list_records(workspace)
        documents = [entry.document() for entry in entries]
        index = {"kind": "index", "format": FORMAT_VERSION, "entries": documents}
        workspace.replace(INDEX_KEY, canonical_json(index))
        if list_records(workspace) == entries:
            return
