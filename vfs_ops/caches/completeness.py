"""Which shards of a cache are finished, told by its receipts."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final

from vfs_ops.caches.layout import cache_key, receipt_key
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt, most_receipt_bytes
from vfs_ops.caches.shards import most_encoded_bytes
from vfs_ops.errors import DamagedError, NotFoundError
from vfs_ops.store.workspace import Workspace

_NAME: Final = re.compile(r"([0-9]{5,})\.json")
_READERS: Final = 16
"""Receipts read at a time: each is a request of its own, and small."""


def finished_shards(workspace: Workspace, plan: Plan) -> set[int]:
    """Return the shards that have a receipt, by one listing; what receipts say is not read.

    Raises
    ------
    DamagedError
        If there is a receipt that no shard of the plan can have.
    """
    found = set()
    for name in workspace.names(cache_key(plan.cache, "receipts")):
        number = _NAME.fullmatch(name)
        shard = int(number[1]) if number else plan.shard_count
        if shard >= plan.shard_count or not receipt_key(plan.cache, shard).endswith(f"/{name}"):
            raise DamagedError(
                f"{name} among the receipts of cache {plan.cache[:12]} belongs to none of its "
                f"{plan.shard_count} shards; delete it and build again"
            )
        found.add(shard)
    return found


def read_receipts(workspace: Workspace, plan: Plan, shards: Iterable[int]) -> Iterator[Receipt]:
    """Read the receipts of some shards, in the order asked for, several at a time.

    Raises
    ------
    NotFoundError
        If a shard has none.
    DamagedError
        If one does not fit the plan.
    NewerFormatError
        If one is of a newer format.
    """
    for _, found in receipts_or_errors(workspace, plan, shards):
        if not isinstance(found, Receipt):
            raise found
        yield found


def receipts_or_errors(
    workspace: Workspace, plan: Plan, shards: Iterable[int]
) -> Iterator[tuple[int, Receipt | DamagedError | NotFoundError]]:
    """Read receipts as `read_receipts` does, and go on where one is missing or damaged."""

    def read(shard: int) -> tuple[int, Receipt | DamagedError | NotFoundError]:
        try:
            return shard, read_receipt(workspace, plan, shard)
        except (DamagedError, NotFoundError) as error:
            return shard, error

    upcoming = iter(shards)
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="vfs-receipts")
    try:
        waiting: deque[Future[tuple[int, Receipt | DamagedError | NotFoundError]]] = deque(
            pool.submit(read, shard) for shard in islice(upcoming, 2 * _READERS)
        )
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(read, shard) for shard in islice(upcoming, 1))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def read_receipt(workspace: Workspace, plan: Plan, shard: int) -> Receipt:
    """Read the receipt of one shard.

    Raises
    ------
    NotFoundError
        If it has none.
    DamagedError, NewerFormatError
        If it does not fit the plan.
    """
    data = workspace.read(receipt_key(plan.cache, shard), most=most_receipt_bytes(plan))
    receipt = Receipt.decode(data)
    if receipt.shard != shard:
        raise DamagedError(f"the receipt of shard {shard} speaks of {receipt.shard}; run verify")
    check_rows(plan, [receipt])
    return receipt


def check_rows(plan: Plan, receipts: Iterable[Receipt]) -> None:
    """Refuse receipts that do not cover what the plan says.

    Raises
    ------
    DamagedError
        If one covers other rows, has another number of chunks, or claims more bytes than such a
        shard can have.
    """
    for receipt in receipts:
        chunks = -(-(receipt.stop - receipt.start) // plan.images_per_chunk)
        rows = (receipt.start, receipt.stop)
        expected = plan.shard_rows(receipt.shard)
        if rows != (expected.start, expected.stop) or chunks != len(receipt.chunk_checksums):
            raise DamagedError(
                f"the receipt of shard {receipt.shard} covers rows {rows[0]} to {rows[1]} in "
                f"{len(receipt.chunk_checksums)} chunks, which is not the plan's; run verify"
            )
        if receipt.feature_bytes > most_encoded_bytes(plan):
            raise DamagedError(
                f"the receipt of shard {receipt.shard} claims {receipt.feature_bytes:,} bytes; "
                f"its plan allows {most_encoded_bytes(plan):,}; run verify"
            )
