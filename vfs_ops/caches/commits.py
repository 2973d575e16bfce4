"""The commit of a cache: ``complete.json``, which makes it exist and vouches for its documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vfs_ops.caches.completeness import check_rows, finished_shards, read_receipts
from vfs_ops.caches.layout import cache_key, create_or_match, probe_bytes, sha256
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import (
    MAX_TABLE_BYTES,
    Receipt,
    ReceiptTable,
    decode_receipts,
    encode_receipts,
    most_table_bytes,
)
from vfs_ops.errors import DamagedError, IncompleteError, TooLargeError
from vfs_ops.identity.canonical import FORMATS, canonical_json, check_format, parse_json
from vfs_ops.store.locations import MAX_DOCUMENT_BYTES, MAX_OBJECT_BYTES
from vfs_ops.store.workspace import Workspace


@dataclass(frozen=True)
class Commit:
    """What ``complete.json`` says."""

    cache: str
    objects: Mapping[str, str]
    """SHA-256 of every object of the cache that is neither shard nor single receipt, by its key in
    the cache's folder."""

    def check(self, name: str, data: bytes) -> bytes:
        """Return what was read of an object, if it is what was committed.

        Raises
        ------
        DamagedError
            If it is not.
        """
        if self.objects.get(name) != sha256(data):
            raise DamagedError(
                f"{name} of cache {self.cache[:12]} is not what was committed; mirror or build the "
                "cache again"
            )
        return data


def small_objects() -> list[str]:
    """Return the keys, in a cache's folder, of all objects that a commit names."""
    arrays = ("features", "sq_norm", "valid", "probe", "y", "x")
    return [
        "cache.json",
        "plan.json",
        "receipts.parquet",
        "data.zarr/zarr.json",
        *(f"data.zarr/{name}/zarr.json" for name in arrays),
        "data.zarr/probe/c/0/0/0",
        "data.zarr/y/c/0",
        "data.zarr/x/c/0",
    ]


def most_bytes(name: str, plan: Plan | None) -> int:
    """Return the most bytes that one of `small_objects` may have, by the plan if there is one."""
    if name == "receipts.parquet":
        return MAX_TABLE_BYTES if plan is None else most_table_bytes(plan)
    if name == "data.zarr/probe/c/0/0/0":
        return MAX_OBJECT_BYTES if plan is None else probe_bytes(plan)
    return MAX_DOCUMENT_BYTES


def not_as_committed(
    workspace: Workspace, cache_id: str, plan: Plan | None, commit: Commit
) -> dict[str, str]:
    """Read all objects that a commit names, and say what is wrong with which.

    Parameters
    ----------
    plan
        Of the cache, if it has one.
    """
    wrong = {}
    for name in small_objects():
        key = f"{cache_key(cache_id)}/{name}"
        try:
            data = workspace.read_optional(key, most=most_bytes(name, plan))
            right = data is not None and commit.objects.get(name) == sha256(data)
        except DamagedError:  # it is longer
            data, right = b"", False
        if not right:
            wrong[name] = "is missing" if data is None else "is not what was committed"
    return wrong


def commit(workspace: Workspace, plan: Plan) -> Commit:
    """Make a finished cache exist for readers.

    Raises
    ------
    IncompleteError
        If a shard has no receipt.
    TooLargeError
        If it has more shards than readers take receipts of.
    """
    finished = len(finished_shards(workspace, plan))
    if finished < plan.shard_count:
        raise IncompleteError(
            f"cache {plan.cache[:12]} has {finished} of {plan.shard_count} shards; "
            "build it again to compute the rest"
        )
    table_key = cache_key(plan.cache, "receipts.parquet")
    table = encode_receipts(read_receipts(workspace, plan, range(plan.shard_count)))
    if len(table) > most_table_bytes(plan):
        raise TooLargeError(
            f"the receipts of cache {plan.cache[:12]} take {len(table):,} bytes, and no reader "
            f"takes more than {most_table_bytes(plan):,}; split the dataset"
        )
    if not workspace.create(table_key, table) and not _tells(workspace, table_key, table, plan):
        workspace.replace(table_key, table)  # of an attempt that came to no commit: nobody reads it
    objects = {name: sha256(_read(workspace, plan, name)) for name in small_objects()}
    done = Commit(plan.cache, objects)
    document = {"kind": "complete", "format": FORMATS["complete"], **vars(done)}
    create_or_match(workspace, plan.cache, "complete.json", canonical_json(document))
    return done


def _read(workspace: Workspace, plan: Plan, name: str) -> bytes:
    return workspace.read(f"{cache_key(plan.cache)}/{name}", most=most_bytes(name, plan))


def _tells(workspace: Workspace, key: str, table: bytes, plan: Plan) -> bool:
    """Tell if a stored table has the same receipts; its bytes depend on the version of Arrow."""
    try:
        stored = decode_receipts(workspace.read(key, most=most_table_bytes(plan)), plan)
    except DamagedError:
        return False
    return stored == decode_receipts(table, plan)


def read_commit(workspace: Workspace, cache_id: str) -> Commit | None:
    """Read a cache's commit; None if it has none.

    Raises
    ------
    NewerFormatError, DamagedError
        If there is one and it cannot be used.
    """
    key = cache_key(cache_id, "complete.json")
    data = workspace.read_optional(key, most=MAX_DOCUMENT_BYTES)
    return None if data is None else decode_commit(data, cache_id)


def decode_commit(data: bytes, cache_id: str) -> Commit:
    """Read back what `commit` wrote.

    Raises
    ------
    NewerFormatError, DamagedError
        If it cannot be used, or is of another cache.
    """
    document = parse_json(data, "complete.json")
    check_format(document, "complete", f"complete.json of cache {cache_id[:12]}")
    objects = document.get("objects")
    if document.get("cache") != cache_id or not isinstance(objects, dict):
        raise DamagedError(f"complete.json of cache {cache_id[:12]} is not its own; mirror again")
    return Commit(cache_id, objects)


def read_committed_receipts(workspace: Workspace, plan: Plan, commit: Commit) -> ReceiptTable:
    """Read the receipts of a finished cache in one request, checked against its commit.

    Raises
    ------
    DamagedError
        If they are not what was committed, or do not cover the plan.
    """
    name = "receipts.parquet"
    data = commit.check(name, _read(workspace, plan, name))
    receipts = decode_receipts(data, plan)
    check_rows(plan, _in_order(plan, receipts))
    return receipts


def _in_order(plan: Plan, receipts: ReceiptTable) -> Iterator[Receipt]:
    for shard, receipt in enumerate(receipts):
        if receipt.shard != shard:
            raise DamagedError(
                f"receipts.parquet of cache {plan.cache[:12]} lacks shards; mirror again"
            )
        yield receipt
