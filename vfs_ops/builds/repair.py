"""Withdrawing what is damaged, so that a build computes it again.

The order makes a kill harmless: first what makes the cache exist for readers, then a shard's
receipt, then its arrays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vfs_ops.builds.checks import check_shards
from vfs_ops.builds.execution import call_each, in_groups
from vfs_ops.builds.reports import NoticeCallback
from vfs_ops.caches.commits import Commit, read_commit, read_committed_receipts, small_objects
from vfs_ops.caches.completeness import finished_shards
from vfs_ops.caches.layout import (
    cache_key,
    features_key,
    read_plan,
    receipt_key,
    sha256,
    sq_norm_key,
    valid_key,
    write_receipt,
)
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt, ReceiptTable
from vfs_ops.errors import DamagedError
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

Check = Literal["sizes", "digests"]
"""How a finished cache is looked at: that every object is there with its size, by listings; or that
every digest is right, by reading all."""

_KEPT = ("plan.json",)  # cannot be made again; reading it names what is wrong


def withdraw(workspace: Workspace, plan: Plan, shards: Iterable[int]) -> None:
    """Make a cache unfinished, and some of its shards missing."""
    withdraw_commit(workspace, plan.cache)
    for shard in shards:
        workspace.delete(receipt_key(plan.cache, shard))
        for key_of in (valid_key, sq_norm_key, features_key):
            workspace.delete(key_of(plan.cache, shard))


def withdraw_commit(workspace: Workspace, cache_id: str) -> None:
    """Make a cache unfinished; its shards stay."""
    workspace.delete(cache_key(cache_id, "complete.json"))
    workspace.delete(cache_key(cache_id, "receipts.parquet"))


def mend(
    workspace: Workspace,
    cache_id: str,
    *,
    check: Check,
    client: Client | None,
    on_notice: NoticeCallback,
) -> None:
    """Withdraw what is damaged of a finished cache; nothing happens to any other.

    Parameters
    ----------
    check
        How closely to look.
    client
        Of a cluster whose workers read the shards, where digests are checked.
    on_notice
        Told what was found and done.

    Raises
    ------
    DamagedError, UnsafeMetadataError
        If the plan cannot be used, which nothing can mend.
    NewerFormatError
        If the cache is of a newer format.
    """
    name = f"cache {cache_id[:12]}"
    plan = read_plan(workspace, cache_id)
    try:
        commit = read_commit(workspace, cache_id)
    except DamagedError as error:
        withdraw_commit(workspace, cache_id)
        on_notice(f"{name}: its commit was withdrawn: {error}")
        return
    if commit is None or not _mend_documents(workspace, cache_id, commit, on_notice) or not plan:
        return
    receipts = read_committed_receipts(workspace, plan, commit)
    finished = finished_shards(workspace, plan)
    for shard in sorted(set(range(plan.shard_count)) - finished):
        write_receipt(workspace, cache_id, receipts[shard])
        on_notice(f"{name}: the missing receipt of shard {shard} was written again")
    problems = _missing_or_cut(workspace, plan, receipts)
    if check == "digests" and not problems:
        problems = _wrong_digests(workspace, plan, receipts, client, on_notice)
    if problems:
        withdraw(workspace, plan, sorted(problems))
        for shard, what in sorted(problems.items()):
            on_notice(f"{name}: shard {shard} is computed again: {what}")


def _mend_documents(
    workspace: Workspace, cache_id: str, commit: Commit, on_notice: NoticeCallback
) -> bool:
    """Delete documents that are not what was committed; returns whether the commit stands."""
    wrong = []
    for name in small_objects():
        data = workspace.read_optional(f"{cache_key(cache_id)}/{name}")
        if data is None or commit.objects.get(name) != sha256(data):
            wrong.append(name)
    if not wrong:
        return True
    withdraw_commit(workspace, cache_id)
    for name in wrong:
        if name not in _KEPT:
            workspace.delete(f"{cache_key(cache_id)}/{name}")
    on_notice(f"cache {cache_id[:12]}: not as committed, and written again: {', '.join(wrong)}")
    return False


def _missing_or_cut(workspace: Workspace, plan: Plan, receipts: ReceiptTable) -> dict[int, str]:
    """Find shards whose objects are not there, or have another size, by listing alone."""
    norms = 4 * plan.images_per_shard * plan.grid[0] * plan.grid[1]
    expected: dict[str, NDArray[np.int64]] = {
        "features": receipts.feature_bytes(),
        "sq_norm": np.full(plan.shard_count, norms),
        "valid": np.full(plan.shard_count, plan.images_per_shard),
    }
    problems = {}
    for array, sizes in expected.items():
        found = np.full(plan.shard_count, -1)
        for stat in workspace.walk(cache_key(plan.cache, "data.zarr", array, "c")):
            number = stat.path.partition(f"{array}/c/")[2].partition("/")[0]
            if number.isdecimal() and int(number) < plan.shard_count:
                found[int(number)] = stat.size
        for shard in np.flatnonzero(found != sizes).tolist():
            there = "is missing" if found[shard] < 0 else f"has {found[shard]} bytes"
            problems[shard] = f"{array} {there}; expected {sizes[shard]} bytes"
    return problems


def _wrong_digests(
    workspace: Workspace,
    plan: Plan,
    receipts: Iterable[Receipt],
    client: Client | None,
    on_notice: NoticeCallback,
) -> dict[int, str]:
    found: dict[int, str] = {}
    call_each(
        client,
        check_shards,
        ((workspace, plan, group) for group in in_groups(receipts, client)),
        name="check",
        on_result=lambda problems: found.update(
            {problem.shard: problem.what for problem in problems if problem.shard is not None}
        ),
        on_notice=on_notice,
    )
    return found
