"""A cache on the store: begin it, write its shards, commit it. Nothing stored ever changes.

The order of writes is what makes a kill harmless: the plan first; a shard's arrays before its
receipt; and last, by `vfs_ops.caches.commits`, what makes the cache exist.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shards import chunk_checksums, decode_features, encode_features
from vfs_ops.caches.values import squared_norms
from vfs_ops.caches.zarr_documents import array_documents, group_document
from vfs_ops.errors import DamagedError, NotFoundError, PlanMismatchError
from vfs_ops.identity.canonical import canonical_json, is_id, parse_json
from vfs_ops.identity.spec import CacheSpec
from vfs_ops.models.closeness import alike
from vfs_ops.store.locations import MAX_DOCUMENT_BYTES
from vfs_ops.store.workspace import Workspace


def cache_key(cache_id: str, *parts: str) -> str:
    """Return the key of a cache's folder, or of an object in it."""
    return "/".join(("caches", cache_id, *parts))


def features_key(cache_id: str, shard: int) -> str:
    """Return the key of one shard of features."""
    return cache_key(cache_id, "data.zarr", "features", "c", str(shard), "0", "0", "0")


def sq_norm_key(cache_id: str, shard: int) -> str:
    """Return the key of one shard of squared norms."""
    return cache_key(cache_id, "data.zarr", "sq_norm", "c", str(shard), "0", "0")


def valid_key(cache_id: str, shard: int) -> str:
    """Return the key of one shard of validity."""
    return cache_key(cache_id, "data.zarr", "valid", "c", str(shard))


def probe_key(cache_id: str) -> str:
    """Return the key of the probe."""
    return cache_key(cache_id, "data.zarr", "probe", "c", "0", "0", "0")


def probe_bytes(plan: Plan) -> int:
    """Return the bytes of the stored probe."""
    return 4 * plan.grid[0] * plan.grid[1] * plan.channels


def receipt_key(cache_id: str, shard: int) -> str:
    """Return the key of the receipt of one shard."""
    return cache_key(cache_id, "receipts", f"{shard:05d}.json")


def sha256(data: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_plan(workspace: Workspace, cache_id: str) -> Plan | None:
    """Read the plan in force for a cache; None where no build has begun.

    Raises
    ------
    NewerFormatError, UnsafeMetadataError, DamagedError
        If there is one and it cannot be used.
    """
    data = workspace.read_optional(cache_key(cache_id, "plan.json"), most=MAX_DOCUMENT_BYTES)
    return None if data is None else decode_plan(data)


def decode_plan(data: bytes) -> Plan:
    """Parse and check ``plan.json``."""
    return Plan.from_document(parse_json(data, "plan.json"))


def begin(workspace: Workspace, spec: CacheSpec, plan: Plan, probe: NDArray[np.float32]) -> Plan:
    """Write all of a cache that is not a shard; whoever comes second adopts what is there.

    Parameters
    ----------
    probe
        Feature map of the probe image, shape (y, x, channel).

    Returns
    -------
    Plan
        The plan in force, perhaps another builder's.

    Raises
    ------
    PlanMismatchError
        If the plan in force is not one for this cache.
    DamagedError
        If an object is there that is not what belongs there.
    """
    workspace.create(cache_key(spec.id, "plan.json"), _readable(plan.document()))
    stored = read_plan(workspace, spec.id) or plan
    for field in ("cache", "dtype", "images", "grid", "channels"):
        if getattr(stored, field) != getattr(plan, field):
            raise PlanMismatchError(
                f"plan.json of cache {spec.id[:12]} says {field} {getattr(stored, field)!r}; this "
                f"build needs {getattr(plan, field)!r}; delete {cache_key(spec.id)} and build again"
            )
    plan = stored
    create_or_match(workspace, spec.id, "cache.json", canonical_json(spec.document()))
    for name, document in array_documents(spec, plan).items():
        create_or_match(workspace, spec.id, f"data.zarr/{name}/zarr.json", _readable(document))
    for name, cells, pixels in zip(
        "yx", plan.grid, spec.extractor.preprocessing.input_size, strict=True
    ):
        middles = ((np.arange(cells) + 0.5) * (pixels / cells)).astype("<f4")
        create_or_match(workspace, spec.id, f"data.zarr/{name}/c/0", middles.tobytes())
    workspace.create(probe_key(spec.id), np.ascontiguousarray(probe, "<f4").tobytes())
    create_or_match(
        workspace, spec.id, "data.zarr/zarr.json", _readable(group_document(spec, plan))
    )
    return plan


def read_probe(workspace: Workspace, plan: Plan) -> NDArray[np.float32]:
    """Read the feature map of the probe image, shape (y, x, channel).

    Raises
    ------
    DamagedError
        If it is cut off.
    """
    size = probe_bytes(plan)
    data = workspace.read(probe_key(plan.cache), most=size)
    if len(data) != size:
        raise DamagedError(f"the probe of cache {plan.cache[:12]} is cut off; mirror again")
    return np.frombuffer(data, "<f4").reshape(plan.image_shape)


@dataclass(frozen=True)
class StoredShard:
    """What is stored of one shard."""

    fields: dict[str, Any]
    """The fields of a `Receipt` that say it."""
    repaired: bool
    """True if something damaged was there, which had no receipt, and was replaced."""


def write_shard(
    workspace: Workspace,
    plan: Plan,
    shard: int,
    features: NDArray[np.floating],
    reasons: Mapping[int, str],
) -> StoredShard:
    """Write the arrays of one whole shard; if another builder was faster, adopt what it stored.

    Norms and validity are made from the features that are stored, so the three always agree. What
    is there already and cannot be what a builder stored, as it does not decode or holds other
    features, is replaced: without a receipt, nobody relies on it.

    Parameters
    ----------
    features
        Shape (image, y, x, channel) for exactly the rows of the shard, in the stored dtype.
    reasons
        Why a row is invalid, by row number; all others are valid.

    Raises
    ------
    DamagedError
        If the features given are no whole shard.
    """
    rows = plan.shard_rows(shard)
    if features.shape != (len(rows), *plan.image_shape) or features.dtype != plan.dtype:
        raise DamagedError(
            f"shard {shard} is given {features.dtype} {features.shape}; expected {plan.dtype} "
            f"{(len(rows), *plan.image_shape)}: a write must be a whole shard"
        )
    what = f"shard {shard} of cache {plan.cache[:12]}"
    data, repaired = encode_features(features, plan), False
    key = features_key(plan.cache, shard)
    if not workspace.create(key, data) and (stored := workspace.read(key)) != data:
        adopted = _sound_features(stored, features, plan, what)
        if adopted is None:
            repaired = _replace(workspace, key, data)
        else:
            data, features = stored, adopted
    norms = np.zeros((plan.images_per_shard, *plan.grid), "<f4")
    norms[: len(rows)] = squared_norms(features)
    key = sq_norm_key(plan.cache, shard)
    if not workspace.create(key, norms.tobytes()) and workspace.read(key) != norms.tobytes():
        repaired = _replace(workspace, key, norms.tobytes())
    valid = np.zeros(plan.images_per_shard, np.bool_)
    valid[: len(rows)] = [row not in reasons for row in rows]
    key = valid_key(plan.cache, shard)
    if not workspace.create(key, valid.tobytes()):
        found = np.frombuffer(workspace.read(key), np.uint8)
        if found.shape == valid.shape and found.max() <= 1:
            valid = found.astype(np.bool_)
        else:
            repaired = _replace(workspace, key, valid.tobytes())
    invalid = [row for row, good in zip(rows, valid.tolist(), strict=False) if not good]
    fields = {
        "shard": shard,
        "start": rows.start,
        "stop": rows.stop,
        "features": sha256(data),
        "sq_norm": sha256(norms.tobytes()),
        "valid": sha256(valid.tobytes()),
        "feature_bytes": len(data),
        "chunk_checksums": chunk_checksums(data, len(rows), plan, what),
        "invalid": tuple((row, reasons.get(row, "invalid for another builder")) for row in invalid),
    }
    return StoredShard(fields, repaired)


def _sound_features(
    stored: bytes, ours: NDArray[np.floating], plan: Plan, what: str
) -> NDArray[np.floating] | None:
    """Return the features that another builder stored; None if they are none, or others."""
    try:
        theirs = decode_features(stored, len(ours), plan, what)
    except DamagedError:
        return None
    return theirs if alike(theirs, ours) else None


def _replace(workspace: Workspace, key: str, data: bytes) -> bool:
    workspace.replace(key, data)
    return True


def write_receipt(workspace: Workspace, cache_id: str, receipt: Receipt) -> Receipt:
    """Record that a shard is finished; returns the record in force, perhaps another builder's."""
    key = receipt_key(cache_id, receipt.shard)
    if workspace.create(key, receipt.encode()):
        return receipt
    return Receipt.decode(workspace.read(key))


def read_spec(workspace: Workspace, cache_id: str) -> CacheSpec:
    """Read what a cache is, and check that its id is the digest of that.

    Raises
    ------
    NotFoundError
        If there is no such cache.
    NewerFormatError, DamagedError, SpecError
        If there is one and it cannot be used.
    """
    key = cache_key(cache_id, "cache.json")
    data = workspace.read_optional(key, most=MAX_DOCUMENT_BYTES) if is_id(cache_id) else None
    if data is None:
        raise NotFoundError(
            f"no cache {cache_id[:80]!r} in {workspace.url}; `vfs ls` lists what is there"
        )
    spec = CacheSpec.from_document(parse_json(data, "cache.json"))
    if spec.id != cache_id:
        raise DamagedError(f"cache.json of {cache_id[:12]} has digest {spec.id[:12]}; mirror again")
    return spec


def create_or_match(workspace: Workspace, cache_id: str, name: str, data: bytes) -> None:
    """Write an object of a cache, or see that the same is there.

    Raises
    ------
    DamagedError
        If something else is there.
    """
    key = f"{cache_key(cache_id)}/{name}"
    if not workspace.create(key, data) and workspace.read(key) != data:
        raise DamagedError(
            f"{name} of cache {cache_id[:12]} is not what belongs there; delete "
            f"{cache_key(cache_id)} and build again"
        )


def _readable(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()
