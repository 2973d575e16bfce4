"""Shards of earlier caches that hold what a new cache needs, copied instead of computed.

A dataset that grew by appending shares its full shards with the one before: equal `inputs` mean
equal features (`vfs_ops.identity.spec.shard_inputs`). So a new cache takes over the sizes and codec
of an earlier one of the same extractor, and its shards, each verified by its digests on the way.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from vfs_ops.builds.reports import ShardReport
from vfs_ops.caches.commits import read_commit, read_committed_receipts
from vfs_ops.caches.completeness import finished_shards, read_receipt, read_receipts
from vfs_ops.caches.layout import (
    features_key,
    read_plan,
    read_spec,
    sha256,
    sq_norm_key,
    valid_key,
    write_receipt,
)
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt
from vfs_ops.errors import DamagedError, NewerFormatError, NotFoundError, SpecError
from vfs_ops.identity.spec import CacheSpec, shard_inputs
from vfs_ops.store.workspace import Workspace

_LOOKERS = 8  # caches looked at, and shards copied, at a time


@dataclass(frozen=True)
class Copyable:
    """Where a shard of a new cache can be copied from."""

    shard: int
    plan: Plan
    """Of the earlier cache."""
    source: int
    """The shard's number there."""


def earlier_caches(workspace: Workspace, specs: Sequence[CacheSpec]) -> list[list[Plan]]:
    """Return, for each of some caches, the plans of others that differ from it in images alone.

    The one with most images comes first; equally large ones in order of their ids. What cannot be
    read is none. Costs one listing, and a small request or two a cache of the workspace.
    """

    def look(cache_id: str) -> tuple[CacheSpec, Plan] | None:
        try:
            found = read_spec(workspace, cache_id)
            if all(replace(found, images=spec.images) != spec for spec in specs):
                return None
            plan = read_plan(workspace, cache_id)
        except (NotFoundError, DamagedError, NewerFormatError, SpecError):
            return None
        return None if plan is None else (found, plan)

    with ThreadPoolExecutor(_LOOKERS, thread_name_prefix="vfs-look") as pool:
        looked = [found for found in pool.map(look, workspace.names("caches")) if found]
    looked.sort(key=lambda found: (-found[1].images, found[0].id))
    return [
        [
            plan
            for other, plan in looked
            if other.id != spec.id and replace(other, images=spec.images) == spec
        ]
        for spec in specs
    ]


def copyable_shards(
    workspace: Workspace,
    spec: CacheSpec,
    plan: Plan,
    digests: NDArray[np.uint8],
    earlier: Sequence[Plan],
    missing: Iterable[int],
) -> dict[int, Copyable]:
    """Find the missing shards of a cache that earlier caches hold.

    Parameters
    ----------
    spec, plan
        Of the cache.
    digests
        Content digests of its images, shape (image, 32).
    earlier
        As `earlier_caches` gives them; those cut in another way are left out.
    missing
        The shards that have no receipt.
    """
    sources: dict[str, tuple[Plan, int]] = {}
    for other in earlier:
        if _cut(other) == _cut(plan):
            for receipt in _receipts(workspace, other):
                sources.setdefault(receipt.inputs, (other, receipt.shard))
    found = {}
    for shard in missing if sources else ():
        rows = plan.shard_rows(shard)
        inputs = shard_inputs(spec, (row.tobytes() for row in digests[rows.start : rows.stop]))
        if inputs in sources:
            found[shard] = Copyable(shard, *sources[inputs])
    return found


def copy_shards(
    workspace: Workspace, spec: CacheSpec, plan: Plan, copies: Iterable[Copyable]
) -> Iterator[ShardReport | str]:
    """Copy shards, several at a time; yields a report of each, or why one was not copied."""

    def copy(one: Copyable) -> ShardReport | str:
        try:
            return _copy(workspace, spec, plan, one)
        except (DamagedError, NotFoundError, NewerFormatError) as error:
            return f"shard {one.shard} is computed and not copied: {error}"

    with ThreadPoolExecutor(_LOOKERS, thread_name_prefix="vfs-copy") as pool:
        yield from pool.map(copy, copies)


def _copy(workspace: Workspace, spec: CacheSpec, plan: Plan, one: Copyable) -> ShardReport:
    began, rows = time.monotonic(), plan.shard_rows(one.shard)
    theirs = read_receipt(workspace, one.plan, one.source)
    moved = rows.start - theirs.start
    pairs = (
        (features_key, theirs.features),
        (sq_norm_key, theirs.sq_norm),
        (valid_key, theirs.valid),
    )
    for key_of, digest in pairs:
        data = workspace.read(key_of(one.plan.cache, one.source))
        if sha256(data) != digest:
            raise DamagedError(
                f"{key_of(one.plan.cache, one.source)} is not as written; run verify on that cache"
            )
        key = key_of(plan.cache, one.shard)
        if not workspace.create(key, data) and sha256(workspace.read(key)) != digest:
            raise DamagedError(f"{key} is there already and holds something else")
    receipt = replace(
        theirs,
        shard=one.shard,
        start=rows.start,
        stop=rows.stop,
        invalid=tuple((row + moved, reason) for row, reason in theirs.invalid),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_receipt(workspace, spec.id, receipt)
    return ShardReport(
        cache=spec.id,
        layer=spec.extractor.layer,
        shard=one.shard,
        images=len(rows),
        bytes=theirs.feature_bytes,
        seconds=round(time.monotonic() - began, 3),
        host=socket.gethostname(),
        worker="",
        action="copied",
    )


def _receipts(workspace: Workspace, plan: Plan) -> Iterable[Receipt]:
    """Return the receipts of a cache: of a finished one in one request."""
    try:
        commit = read_commit(workspace, plan.cache)
        if commit is not None:
            return read_committed_receipts(workspace, plan, commit)
        return list(read_receipts(workspace, plan, sorted(finished_shards(workspace, plan))))
    except (DamagedError, NewerFormatError, NotFoundError):
        return []  # of no use here; verify on that cache names what is wrong


def _cut(plan: Plan) -> tuple[object, ...]:
    return (
        *(plan.grid, plan.channels, plan.dtype, plan.codec),
        *(plan.images_per_shard, plan.images_per_chunk, plan.batch_size, plan.threads),
    )
