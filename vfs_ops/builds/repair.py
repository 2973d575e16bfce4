"""Withdrawing what is damaged, so that a build computes it again.

The order makes a kill harmless: first what makes the cache exist for readers, then a shard's
receipt, then its arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vfs_ops.builds.checks import SAMPLE_IMAGES, check_sample, check_shards, sample_batches
from vfs_ops.builds.execution import call_each, in_groups
from vfs_ops.builds.planning import cache_specs
from vfs_ops.builds.reports import NoticeCallback
from vfs_ops.caches.commits import Commit, not_as_committed, read_commit, read_committed_receipts
from vfs_ops.caches.completeness import finished_shards
from vfs_ops.caches.layout import (
    cache_key,
    features_key,
    read_plan,
    read_probe,
    receipt_key,
    sq_norm_key,
    valid_key,
    write_receipt,
)
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt, ReceiptTable
from vfs_ops.datasets.dataset import Dataset
from vfs_ops.errors import DamagedError
from vfs_ops.identity.spec import CacheSpec, StoredDtype
from vfs_ops.models.probe import check_probe, probe
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

    from vfs_ops.models.extract import FeatureExtractor

Check = Literal["sizes", "digests"]
"""How a finished cache is looked at: that every object is there with its size, by listings; or that
every digest is right, by reading all, and that the model computes a sample of it."""

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


def mend_finished(
    dataset: Dataset,
    extractors: Sequence[FeatureExtractor],
    *,
    workspace: Workspace,
    dtype: StoredDtype,
    images: Any,
    check: Check,
    client: Client | None,
    on_notice: NoticeCallback,
) -> None:
    """Withdraw what is damaged of the finished caches that a build would make.

    A plan that is made then counts what is to be computed again. The arguments are those of
    `vfs_ops.builds.builder.build`; a workspace that can only be read is left as it is.

    Raises
    ------
    DamagedError, UnsafeMetadataError, NewerFormatError, ExtractorMismatchError
        As `mend` and `mend_sample` do.
    """
    for extractor in extractors if workspace.writable else ():
        specs = cache_specs(dataset, extractor, dtype)
        for spec in specs:
            mend(workspace, spec.id, check=check, client=client, on_notice=on_notice)
        if check == "digests":
            mend_sample(
                *(dataset, extractor, specs),
                workspace=workspace,
                images=images,
                on_notice=on_notice,
            )


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
    if commit is None or not _mend_documents(workspace, cache_id, plan, commit, on_notice):
        return
    if plan is None:
        return
    receipts = read_committed_receipts(workspace, plan, commit)
    finished = finished_shards(workspace, plan)
    for shard in sorted(set(range(plan.shard_count)) - finished):
        write_receipt(workspace, cache_id, receipts[shard])
        on_notice(f"{name}: the missing receipt of shard {shard} was written again")
    problems = _missing_or_cut(workspace, plan, receipts)
    if check == "digests" and not problems:
        problems = _wrong_digests(workspace, plan, receipts, client, on_notice)
    _withdraw_wrong(workspace, plan, problems, on_notice)


def mend_sample(
    dataset: Dataset,
    extractor: FeatureExtractor,
    specs: Sequence[CacheSpec],
    *,
    workspace: Workspace,
    images: Any,
    on_notice: NoticeCallback,
) -> None:
    """Withdraw the shards of finished caches that the model does not compute, as a sample tells.

    Their digests may be right: so what was computed wrongly, or changed with its receipt.

    Parameters
    ----------
    dataset, extractor, images
        What the caches are made of; see `vfs_ops.builds.builder.build`.
    specs
        What the cache of each of the extractor's layers is.
    workspace, on_notice
        See `mend`.

    Raises
    ------
    ExtractorMismatchError
        If the model computes another probe than a cache holds: then it is not for the cache.
    ImageChangedError, SourceError
        If the images are not those that were ingested, or are not known.
    """
    for layer, spec in enumerate(specs):
        plan, commit = read_plan(workspace, spec.id), read_commit(workspace, spec.id)
        if plan is None or commit is None:
            continue
        computing = extractor.with_threads(plan.threads)
        what = f"cache {plan.cache[:12]} and this model"
        check_probe(read_probe(workspace, plan), probe(computing)[layer], what, spec.precision)
        receipts = read_committed_receipts(workspace, plan, commit)
        batches = sample_batches(plan, SAMPLE_IMAGES)
        reader = dataset.reader(images)
        found = check_sample(workspace, {layer: (plan, receipts)}, computing, reader, batches)
        _withdraw_wrong(workspace, plan, {one.shard: one.what for _, one in found}, on_notice)


def _withdraw_wrong(
    workspace: Workspace,
    plan: Plan,
    problems: Mapping[int | None, str],
    on_notice: NoticeCallback,
) -> None:
    shards = sorted(shard for shard in problems if shard is not None)
    if shards:
        withdraw(workspace, plan, shards)
    for shard in shards:
        on_notice(f"cache {plan.cache[:12]}: shard {shard} is computed again: {problems[shard]}")


def _mend_documents(
    workspace: Workspace,
    cache_id: str,
    plan: Plan | None,
    commit: Commit,
    on_notice: NoticeCallback,
) -> bool:
    """Delete documents that are not what was committed; returns whether the commit stands."""
    wrong = not_as_committed(workspace, cache_id, plan, commit)
    if not wrong:
        return True
    withdraw_commit(workspace, cache_id)
    for name in wrong:
        if name not in _KEPT:
            workspace.delete(f"{cache_key(cache_id)}/{name}")
    on_notice(f"cache {cache_id[:12]}: not as committed, and written again: {', '.join(wrong)}")
    return False


def _missing_or_cut(
    workspace: Workspace, plan: Plan, receipts: ReceiptTable
) -> dict[int | None, str]:
    """Find shards whose objects are not there, or have another size, by listing alone."""
    norms = 4 * plan.images_per_shard * plan.grid[0] * plan.grid[1]
    expected: dict[str, NDArray[np.int64]] = {
        "features": receipts.feature_bytes(),
        "sq_norm": np.full(plan.shard_count, norms),
        "valid": np.full(plan.shard_count, plan.images_per_shard),
    }
    problems: dict[int | None, str] = {}
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
) -> dict[int | None, str]:
    found: dict[int | None, str] = {}
    call_each(
        client,
        check_shards,
        ((workspace, plan, group) for group in in_groups(receipts, client)),
        name="check",
        on_result=lambda problems: found.update(
            {problem.shard: problem.what for problem in problems}
        ),
        on_notice=on_notice,
    )
    return found
