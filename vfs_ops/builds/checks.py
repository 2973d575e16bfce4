"""Whether stored shards are what their receipts say, and what the model computes."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from vfs_ops.builds.pipeline import Reader
from vfs_ops.caches.layout import features_key, sha256, sq_norm_key, valid_key
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shard_sources import norm_bytes
from vfs_ops.caches.shards import decode_features
from vfs_ops.caches.values import squared_norms, to_stored
from vfs_ops.errors import DamagedError, ImageError
from vfs_ops.identity.spec import CacheSpec, shard_inputs
from vfs_ops.models.closeness import MIN_COSINE, lowest_cosine
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.models.extract import FeatureExtractor

SAMPLE_IMAGES: Final = 32
"""Images computed again before a commit; whole batches are, so it may be some more."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a cache."""

    shard: int | None
    """The shard; None where the cache as a whole is meant."""
    what: str
    """What was found and what was expected."""


def check_inputs(
    spec: CacheSpec, receipts: Iterable[Receipt], digests: NDArray[np.uint8]
) -> Iterator[Problem]:
    """Compare what receipts say was computed with a dataset's images.

    Parameters
    ----------
    digests
        Content digests of the images, shape (image, 32).
    """
    for receipt in receipts:
        rows = digests[receipt.start : receipt.stop]
        if receipt.inputs != shard_inputs(spec, (row.tobytes() for row in rows)):
            yield Problem(receipt.shard, "was computed from other images or settings")


def check_shards(batch: tuple[Workspace, Plan, Sequence[Receipt]]) -> list[Problem]:
    """Read shards and compare them with their receipts; a task of its own on a cluster."""
    workspace, plan, receipts = batch
    return [
        Problem(receipt.shard, what)
        for receipt in receipts
        for what in check_shard(workspace, plan, receipt)
    ]


def check_shard(workspace: Workspace, plan: Plan, receipt: Receipt) -> Iterator[str]:
    """Read one shard; yield how it differs from its receipt, or from itself."""
    shard = receipt.shard
    objects = {
        "features": (features_key(plan.cache, shard), receipt.features, receipt.feature_bytes),
        "sq_norm": (sq_norm_key(plan.cache, shard), receipt.sq_norm, norm_bytes(plan)),
        "valid": (valid_key(plan.cache, shard), receipt.valid, plan.images_per_shard),
    }
    stored: dict[str, bytes] = {}
    for name, (key, digest, size) in objects.items():
        try:
            data = workspace.read_optional(key, most=size)
        except DamagedError as error:
            yield str(error)
            continue
        if data is None:
            yield f"{name} is missing"
        elif sha256(data) != digest:
            yield f"{name} ({len(data)} bytes) has another digest than its receipt says"
        else:
            stored[name] = data
    if len(stored) < len(objects):
        return
    count, what = receipt.stop - receipt.start, f"shard {receipt.shard}"
    try:
        features = decode_features(stored["features"], count, plan, what, receipt.chunk_checksums)
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


def sample_batches(plan: Plan, images: int) -> list[range]:
    """Choose batches to be computed again: the same for everyone who looks at a cache.

    Parameters
    ----------
    images
        At least so many, or all.
    """
    starts = range(0, plan.images, plan.batch_size)
    count = min(len(starts), -(-images // plan.batch_size))
    chosen = random.Random(plan.cache).sample(starts, count)  # noqa: S311
    return [range(start, min(start + plan.batch_size, plan.images)) for start in sorted(chosen)]


def check_sample(
    workspace: Workspace,
    caches: Mapping[int, tuple[Plan, Sequence[Receipt] | Mapping[int, Receipt]]],
    extractor: FeatureExtractor,
    reader: Reader,
    batches: Iterable[range],
) -> Iterator[tuple[int, Problem]]:
    """Compute batches of images again and compare every layer's stored features.

    What the same device and version of torch computed on this host must be the same bits; else
    each cell must have at least `MIN_COSINE`. Whole batches of the plan are computed, since the
    rounding of float32 depends on what stands in a batch.

    Parameters
    ----------
    caches
        Of the same images and batch size: plan and receipts by layer of the extractor.
    batches
        Rows of each batch, as `sample_batches` chooses them.

    Yields
    ------
    layer, problem
    """
    height, width = extractor.preprocessing.input_size
    for rows in batches:
        pixels = np.zeros((len(rows), height, width, extractor.preprocessing.channels), np.uint8)
        unreadable = []
        for place, row in enumerate(rows):
            try:
                pixels[place] = extractor.prepare(reader.read(row))
            except ImageError:
                unreadable.append(place)
        maps = extractor.features(pixels)
        for layer, (plan, receipts) in caches.items():
            computed = maps[layer].copy()
            computed[unreadable] = 0
            expected, _ = to_stored(computed, plan.dtype)
            receipt = receipts[rows.start // plan.images_per_shard]
            exact = (receipt.host, receipt.device) == (socket.gethostname(), extractor.hardware)
            why = _compare(workspace, plan, receipt, rows, expected, exact)
            if why:
                yield layer, Problem(receipt.shard, why)


def _compare(
    workspace: Workspace,
    plan: Plan,
    receipt: Receipt,
    rows: range,
    expected: NDArray[np.floating],
    exact: bool,
) -> str:
    """Return how stored features differ from expected ones; empty if they do not."""
    count, what = receipt.stop - receipt.start, f"shard {receipt.shard}"
    key = features_key(plan.cache, receipt.shard)
    try:
        data = workspace.read(key, most=receipt.feature_bytes)
        whole = decode_features(data, count, plan, what, receipt.chunk_checksums)
    except DamagedError as error:
        return str(error)
    stored = whole[rows.start - receipt.start : rows.stop - receipt.start]
    if exact and stored.tobytes() == expected.tobytes():
        return ""
    cosine = lowest_cosine(stored, expected)
    if exact:
        return (
            f"images {rows.start} to {rows.stop - 1}, computed again by the same device, are not "
            f"the same bits (lowest cosine {cosine:.6f})"
        )
    if cosine < MIN_COSINE:
        return (
            f"images {rows.start} to {rows.stop - 1}, computed again, have a cosine of "
            f"{cosine:.4f}; expected at least {MIN_COSINE}"
        )
    return ""
