"""Copies of caches and datasets in another workspace, whole or not there at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vfs_ops.builds import claims
from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.caches.commits import (
    Commit,
    decode_commit,
    most_bytes,
    read_commit,
    small_objects,
)
from vfs_ops.caches.layout import cache_key, features_key, receipt_key, sq_norm_key, valid_key
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shard_sources import norm_bytes
from vfs_ops.datasets.dataset import Dataset, open_dataset
from vfs_ops.errors import DamagedError, IncompleteError, MismatchError, PlanMismatchError
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.sharing.copying import Check, Copier, has_digest
from vfs_ops.sharing.dataset_copies import copy_dataset, finish_dataset, has_dataset, has_previews
from vfs_ops.store.concurrent_reads import in_threads
from vfs_ops.store.locations import MAX_DOCUMENT_BYTES
from vfs_ops.store.workspace import Workspace

MEMORY_BYTES: Final = 2**29
"""Bytes of shards that are held at a time, about; but one shard at least."""
_COPIERS: Final = 8


@dataclass(frozen=True)
class MirrorReport:
    """What a mirror did."""

    cache: str | None
    """Cache id; None if a dataset alone was mirrored."""
    dataset: str
    """Dataset id."""
    copied_objects: int
    copied_bytes: int
    kept_objects: int
    """Objects that were in the target already, as they should be."""
    present: bool
    """Whether the target had all of it, so that nothing was looked at."""
    previews: bool
    """Whether the target has the previews."""


def mirror_dataset(
    source: Workspace,
    target: Workspace,
    dataset_id: str,
    *,
    previews: bool = True,
    repair: bool = False,
    progress: ProgressCallback = silent,
) -> MirrorReport:
    """Copy a dataset to another workspace; run again, it goes on where it was interrupted.

    Every object is checked before it is written, and the one that makes the dataset exist is
    written last. Where the images came from is not told to a shared workspace if that is a local
    folder.

    Parameters
    ----------
    source, target
        Where it is, and where it shall be.
    dataset_id
        Its full id.
    previews
        Whether to copy the previews: not if the images may not be published there.
    repair
        Read also what a finished copy has, and replace what is damaged.
    progress
        Told how many packs of previews are done.

    Raises
    ------
    NotFoundError
        If the source has no such dataset.
    DamagedError
        If the source's is damaged; the message names the object, and the target shows nothing.
    AccessError, StorageFullError, UnavailableError, StorageError
        As the storages answer.
    """
    _check_apart(source, target)
    dataset = open_dataset(source, dataset_id)
    copier = Copier(source, target)
    previews = previews and has_previews(source, dataset_id)
    present = not repair and has_dataset(target, dataset_id, previews=previews)
    if not present:
        copy_dataset(copier, dataset, previews=previews, progress=progress)
        finish_dataset(copier, dataset)
    return _report(copier, None, dataset, present=present)


def mirror_cache(
    source: Workspace,
    target: Workspace,
    cache_id: str,
    *,
    previews: bool = True,
    repair: bool = False,
    progress: ProgressCallback = silent,
) -> MirrorReport:
    """Copy a cache and the dataset it was built for; run again, it goes on where it stopped.

    Every object is checked against the digests of the source's commit and receipts before it is
    written; the two that make the dataset and the cache exist are written last. A cache that the
    target has by a build of its own is left as it is.

    Parameters
    ----------
    source, target
        Where it is, and where it shall be.
    cache_id
        Its full id.
    previews
        Whether to copy the previews of the images: not if these may not be published there.
    repair
        Read also what a finished copy has, and replace what is damaged.
    progress
        Told how many packs of previews, then how many shards are done.

    Raises
    ------
    NotFoundError, IncompleteError
        If the source has no such cache, or an unfinished one; `IncompleteError` also if a build
        of it is running in the target and has other shards.
    PlanMismatchError
        If the target has an unfinished build of the cache that is cut in another way.
    DamagedError
        If the source's is damaged; the message names the object, and the target shows nothing.
    AccessError, StorageFullError, UnavailableError, StorageError
        As the storages answer.
    """
    _check_apart(source, target)
    cache = open_cache(source, cache_id)
    copier = Copier(source, target)
    previews = previews and has_previews(source, cache.dataset.id)
    wanted = has_dataset(target, cache.dataset.id, previews=previews)
    other = _finished(target, cache)
    if other is not None and (not repair or other != cache.commit):
        if not wanted:
            copy_dataset(copier, cache.dataset, previews=previews, progress=progress)
            finish_dataset(copier, cache.dataset)
        return _report(copier, cache, cache.dataset, present=wanted)
    with claims.held(target, [cache_id]) as held:
        copier.before_replacing = lambda: _check_alone(target, cache_id, held.builder)
        if repair or not wanted:
            copy_dataset(copier, cache.dataset, previews=previews, progress=progress)
        _copy_cache(copier, cache, progress)
        finish_dataset(copier, cache.dataset)
        copier.copy(cache_key(cache_id, "complete.json"), _is_commit_of(cache), MAX_DOCUMENT_BYTES)
    return _report(copier, cache, cache.dataset, present=False)


def _check_apart(source: Workspace, target: Workspace) -> None:
    if source.url == target.url:
        raise MismatchError(f"{source.url} is source and target; give two workspaces")


def _finished(target: Workspace, cache: Cache) -> Commit | None:
    try:
        return read_commit(target, cache.id)
    except DamagedError:
        return None


def _copy_cache(copier: Copier, cache: Cache, progress: ProgressCallback) -> None:
    """Copy all of a cache but its commit: what is read first is written first, receipts last."""
    copier.look_around(cache_key(cache.id))
    _check_plan(copier.target, cache)
    table = "receipts.parquet"
    names = ["plan.json", *(name for name in small_objects() if name not in ("plan.json", table))]
    for name in names:
        _copy_committed(copier, cache, name)

    def copy_shard(shard: int) -> None:
        receipt = cache.receipts[shard]
        for key, digest, size in _objects(cache.plan, receipt):
            copier.copy(key, has_digest(digest), size)
        copier.write(receipt_key(cache.id, shard), receipt.encode())

    largest = max((receipt.feature_bytes for receipt in cache.receipts), default=1)
    workers = max(1, min(_COPIERS, MEMORY_BYTES // (largest + 1)))
    shards = in_threads(copy_shard, range(cache.shard_count), workers)
    for done, _ in enumerate(shards, 1):
        progress(Progress("shards", done, cache.shard_count, "shards"))
    _copy_committed(copier, cache, table)


def _check_plan(target: Workspace, cache: Cache) -> None:
    stored = target.read_optional(cache_key(cache.id, "plan.json"), most=MAX_DOCUMENT_BYTES)
    if stored is not None and not _digest_in(cache, "plan.json")(stored):
        raise PlanMismatchError(
            f"{target.url} has an unfinished build of cache {cache.id[:12]} that is cut into other "
            "shards; prune the workspace or finish that build, then mirror again"
        )


def _copy_committed(copier: Copier, cache: Cache, name: str) -> None:
    key, most = f"{cache_key(cache.id)}/{name}", most_bytes(name, cache.plan)
    copier.copy(key, _digest_in(cache, name), most)


def _digest_in(cache: Cache, name: str) -> Check:
    return has_digest("" if cache.commit is None else cache.commit.objects.get(name, ""))


def _objects(plan: Plan, receipt: Receipt) -> Iterator[tuple[str, str, int]]:
    """Yield key, digest and size of each object of a shard."""
    yield features_key(plan.cache, receipt.shard), receipt.features, receipt.feature_bytes
    yield sq_norm_key(plan.cache, receipt.shard), receipt.sq_norm, norm_bytes(plan)
    yield valid_key(plan.cache, receipt.shard), receipt.valid, plan.images_per_shard


def _is_commit_of(cache: Cache) -> Check:
    def right(data: bytes) -> bool:
        try:
            return decode_commit(data, cache.id) == cache.commit
        except DamagedError:
            return False

    return right


def _check_alone(target: Workspace, cache_id: str, builder: str) -> None:
    """Refuse to write over what a build that is running in the target has computed."""
    others = [claim for claim in claims.active(target, cache_id) if claim.builder != builder]
    if others:
        raise IncompleteError(
            f"cache {cache_id[:12]} is being built in {target.url} by "
            f"{', '.join(map(str, others))}; wait for that, or mirror it afterwards"
        )


def _report(
    copier: Copier, cache: Cache | None, dataset: Dataset, *, present: bool
) -> MirrorReport:
    return MirrorReport(
        cache=None if cache is None else cache.id,
        dataset=dataset.id,
        copied_objects=copier.copied_objects,
        copied_bytes=copier.copied_bytes,
        kept_objects=copier.kept_objects,
        present=present,
        previews=has_previews(copier.target, dataset.id),
    )
