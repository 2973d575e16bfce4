"""Read everything of a cache again and name what is not as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vfs_ops.caches import Cache
from vfs_ops.commits import small_objects
from vfs_ops.datasets import Dataset
from vfs_ops.errors import DamagedError, NewerFormatError
from vfs_ops.layout import (
    cache_key,
    features_key,
    receipt_key,
    sha256,
    sq_norm_key,
    valid_key,
)
from vfs_ops.manifests import dataset_document
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.receipts import Receipt
from vfs_ops.shards import decode_features
from vfs_ops.spec import shard_inputs
from vfs_ops.values import squared_norms


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a cache."""

    shard: int | None
    """The shard; None where the cache as a whole is meant."""
    what: str
    """What was found and what was expected."""


def verify(cache: Cache, *, progress: ProgressCallback = silent) -> list[Problem]:
    """Check every object of a cache against its receipts, and the receipts against the images.

    Opening the cache has checked its documents, its Zarr metadata and the table of receipts. This
    reads every shard: its arrays must have the digests of the receipt, decode, agree with each
    other, and stem from the images of the dataset, whose manifest must be what its id says.

    Parameters
    ----------
    cache
        An opened cache.
    progress
        Told how many shards are checked.

    Returns
    -------
    list of Problem
        Empty if the cache is whole.

    Raises
    ------
    AccessError, UnavailableError, StorageError
        If the storage fails, which says nothing about the cache.
    """
    problems = [Problem(None, what) for what in _check_documents(cache)]
    problems.extend(Problem(None, what) for what in _check_dataset(cache.dataset))
    digests = cache.dataset.digests()
    for receipt in cache.receipts:
        if not _same_receipt(cache, receipt):
            problems.append(Problem(receipt.shard, "its receipt is missing or was changed"))
        rows = digests[receipt.start : receipt.stop]
        if receipt.inputs != shard_inputs(cache.spec, (row.tobytes() for row in rows)):
            problems.append(Problem(receipt.shard, "was computed from other images or settings"))
        problems.extend(Problem(receipt.shard, what) for what in _check_shard(cache, receipt))
        progress(Progress("verify", receipt.shard + 1, cache.shard_count, "shards"))
    return problems


def _check_documents(cache: Cache) -> Iterator[str]:
    if cache.commit is None:
        yield "the cache is not finished"
        return
    for name in small_objects():
        data = cache.workspace.read_optional(f"{cache_key(cache.id)}/{name}")
        if data is None:
            yield f"{name} is missing"
        elif cache.commit.objects.get(name) != sha256(data):
            yield f"{name} is not what was committed"


def _check_dataset(dataset: Dataset) -> Iterator[str]:
    for key, value in dataset_document(dataset.table()).items():
        if key != "format" and dataset.document[key] != value:
            yield f"the manifest of dataset {dataset.id[:12]} has other {key} than its id says"


def _same_receipt(cache: Cache, receipt: Receipt) -> bool:
    data = cache.workspace.read_optional(receipt_key(cache.id, receipt.shard))
    try:
        return data is not None and Receipt.decode(data) == receipt
    except (DamagedError, NewerFormatError):
        return False


def _check_shard(cache: Cache, receipt: Receipt) -> Iterator[str]:
    keys = {
        "features": (features_key(cache.id, receipt.shard), receipt.features),
        "sq_norm": (sq_norm_key(cache.id, receipt.shard), receipt.sq_norm),
        "valid": (valid_key(cache.id, receipt.shard), receipt.valid),
    }
    stored: dict[str, bytes] = {}
    for name, (key, digest) in keys.items():
        data = cache.workspace.read_optional(key)
        if data is None:
            yield f"{name} is missing"
        elif sha256(data) != digest:
            yield f"{name} ({len(data)} bytes) has another digest than its receipt says"
        else:
            stored[name] = data
    if len(stored) < len(keys):
        return
    count, plan = receipt.stop - receipt.start, cache.plan
    try:
        features = decode_features(
            stored["features"], count, plan, f"shard {receipt.shard}", receipt.chunk_checksums
        )
    except DamagedError as error:
        yield str(error)
        return
    norms = np.zeros((plan.images_per_shard, *plan.grid), "<f4")
    norms[:count] = squared_norms(features)
    if norms.tobytes() != stored["sq_norm"]:
        yield "sq_norm does not fit the features"
    valid = np.zeros(plan.images_per_shard, np.bool_)
    valid[:count] = True
    valid[[row - receipt.start for row, _ in receipt.invalid]] = False
    if valid.tobytes() != stored["valid"]:
        yield "valid does not fit the receipt"
