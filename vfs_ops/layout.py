"""A cache on the store: begin it, write its shards, commit it. Nothing stored ever changes.

The order of writes is what makes a kill harmless: the plan first; a shard's arrays before its
receipt; all receipts in one table before ``complete.json``, which makes the cache exist.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfs_ops.canonical import FORMAT_VERSION, canonical_json, check_format, is_id, parse_json
from vfs_ops.errors import DamagedError, IncompleteError, NotFoundError
from vfs_ops.plans import Plan
from vfs_ops.receipts import Receipt, decode_receipts, encode_receipts
from vfs_ops.shards import decode_features, encode_features
from vfs_ops.spec import CacheSpec
from vfs_ops.storage import Workspace
from vfs_ops.values import squared_norms
from vfs_ops.zarr_documents import array_documents, group_document


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


def receipt_key(cache_id: str, shard: int) -> str:
    """Return the key of the receipt of one shard."""
    return cache_key(cache_id, "receipts", f"{shard:05d}.json")


def sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Commit:
    """What ``complete.json`` says."""

    cache: str
    receipts: str
    """SHA-256 of ``receipts.parquet``."""
    shards: int
    feature_bytes: int
    """Bytes of all features objects."""
    invalid: int
    """Images that can never be a hit."""


def read_plan(workspace: Workspace, cache_id: str) -> Plan | None:
    """Read the plan in force for a cache; None where no build has begun.

    Raises
    ------
    NewerFormatError, UnsafeMetadataError, DamagedError
        If there is one and it cannot be used.
    """
    data = workspace.read_optional(cache_key(cache_id, "plan.json"))
    return None if data is None else Plan.from_document(parse_json(data, "plan.json"))


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
    """
    workspace.create(cache_key(spec.id, "plan.json"), _readable(plan.document()))
    plan = read_plan(workspace, spec.id) or plan
    _create(workspace, spec.id, "cache.json", canonical_json(spec.document()))
    root = cache_key(spec.id, "data.zarr")
    for name, document in array_documents(spec, plan).items():
        workspace.create(f"{root}/{name}/zarr.json", _readable(document))
    for name, cells, pixels in zip(
        "yx", plan.grid, spec.extractor.preprocessing.input_size, strict=True
    ):
        middles = ((np.arange(cells) + 0.5) * (pixels / cells)).astype("<f4")
        workspace.create(f"{root}/{name}/c/0", middles.tobytes())
    workspace.create(probe_key(spec.id), np.ascontiguousarray(probe, "<f4").tobytes())
    workspace.create(f"{root}/zarr.json", _readable(group_document(spec, plan)))
    return plan


def read_probe(workspace: Workspace, plan: Plan) -> NDArray[np.float32]:
    """Read the feature map of the probe image, shape (y, x, channel).

    Raises
    ------
    DamagedError
        If it is cut off.
    """
    data = workspace.read(probe_key(plan.cache))
    if len(data) != 4 * int(np.prod(plan.image_shape)):
        raise DamagedError(f"the probe of cache {plan.cache[:12]} is cut off; mirror again")
    return np.frombuffer(data, "<f4").reshape(plan.image_shape)


def write_shard(
    workspace: Workspace,
    plan: Plan,
    shard: int,
    features: NDArray[np.floating],
    reasons: Mapping[int, str],
) -> dict[str, Any]:
    """Write the arrays of one whole shard; if another builder was faster, adopt what it stored.

    Norms and validity are made from the features that are stored, so the three always agree.

    Parameters
    ----------
    features
        Shape (image, y, x, channel) for exactly the rows of the shard, in the stored dtype.
    reasons
        Why a row is invalid, by row number; all others are valid.

    Returns
    -------
    dict
        The fields of a `Receipt` that say what is stored.

    Raises
    ------
    DamagedError
        If what another builder stored is no sound shard.
    """
    rows = plan.shard_rows(shard)
    if features.shape != (len(rows), *plan.image_shape) or features.dtype != plan.dtype:
        raise DamagedError(
            f"shard {shard} is given {features.dtype} {features.shape}; expected {plan.dtype} "
            f"{(len(rows), *plan.image_shape)}: a write must be a whole shard"
        )
    what = f"shard {shard} of cache {plan.cache[:12]}"
    data = encode_features(features, plan)
    if not workspace.create(features_key(plan.cache, shard), data):
        stored = workspace.read(features_key(plan.cache, shard))
        if stored != data:
            data, features = stored, decode_features(stored, len(rows), plan, what)
    norms = np.zeros((plan.images_per_shard, *plan.grid), "<f4")
    norms[: len(rows)] = squared_norms(features)
    valid = np.zeros(plan.images_per_shard, np.bool_)
    valid[: len(rows)] = [row not in reasons for row in rows]
    digests = {"features": sha256(data)}
    for name, key, encoded in (
        ("sq_norm", sq_norm_key(plan.cache, shard), norms.tobytes()),
        ("valid", valid_key(plan.cache, shard), valid.tobytes()),
    ):
        if not workspace.create(key, encoded) and workspace.read(key) != encoded:
            raise DamagedError(f"{what}: {name} does not fit the features; run verify")
        digests[name] = sha256(encoded)
    return {
        "shard": shard,
        "start": rows.start,
        "stop": rows.stop,
        "feature_bytes": len(data),
        "invalid": tuple(sorted(reasons.items())),
        **digests,
    }


def write_receipt(workspace: Workspace, cache_id: str, receipt: Receipt) -> Receipt:
    """Record that a shard is finished; returns the record in force, perhaps another builder's."""
    key = receipt_key(cache_id, receipt.shard)
    if workspace.create(key, receipt.encode()):
        return receipt
    return Receipt.decode(workspace.read(key))


def read_receipts(workspace: Workspace, plan: Plan) -> dict[int, Receipt]:
    """Read the receipts there are, by shard.

    Raises
    ------
    DamagedError
        If one does not fit the plan.
    """
    receipts: dict[int, Receipt] = {}
    for name in workspace.names(cache_key(plan.cache, "receipts")):
        receipt = Receipt.decode(workspace.read(cache_key(plan.cache, "receipts", name)))
        if not receipt_key(plan.cache, receipt.shard).endswith(f"/{name}"):
            raise DamagedError(f"receipt {name} speaks of shard {receipt.shard}; run verify")
        receipts[receipt.shard] = receipt
    _check_rows(plan, receipts.values())
    return receipts


def commit(workspace: Workspace, plan: Plan) -> Commit:
    """Make a finished cache exist for readers.

    Raises
    ------
    IncompleteError
        If a shard has no receipt.
    """
    receipts = read_receipts(workspace, plan)
    missing = plan.shard_count - len(receipts)
    if missing:
        raise IncompleteError(
            f"cache {plan.cache[:12]} has {len(receipts)} of {plan.shard_count} shards; "
            "build it again to compute the rest"
        )
    table_key = cache_key(plan.cache, "receipts.parquet")
    workspace.create(table_key, encode_receipts(receipts.values()))
    done = Commit(
        cache=plan.cache,
        receipts=sha256(workspace.read(table_key)),
        shards=plan.shard_count,
        feature_bytes=sum(receipt.feature_bytes for receipt in receipts.values()),
        invalid=sum(len(receipt.invalid) for receipt in receipts.values()),
    )
    document = {"kind": "complete", "format": FORMAT_VERSION, **vars(done)}
    _create(workspace, plan.cache, "complete.json", canonical_json(document))
    return done


def read_commit(workspace: Workspace, cache_id: str) -> Commit | None:
    """Read a cache's commit; None if it has none.

    Raises
    ------
    NewerFormatError, DamagedError
        If there is one and it cannot be used.
    """
    data = workspace.read_optional(cache_key(cache_id, "complete.json"))
    if data is None:
        return None
    document = parse_json(data, "complete.json")
    check_format(document, f"cache {cache_id[:12]}")
    try:
        return Commit(**{k: v for k, v in document.items() if k not in ("kind", "format")})
    except TypeError as error:
        raise DamagedError(f"complete.json of cache {cache_id[:12]} is malformed") from error


def read_spec(workspace: Workspace, cache_id: str) -> CacheSpec:
    """Read what a cache is, and check that its id is the digest of that.

    Raises
    ------
    NotFoundError
        If there is no such cache.
    NewerFormatError, DamagedError, SpecError
        If there is one and it cannot be used.
    """
    data = workspace.read_optional(cache_key(cache_id, "cache.json")) if is_id(cache_id) else None
    if data is None:
        raise NotFoundError(
            f"no cache {cache_id[:80]!r} in {workspace.url}; `vfs ls` lists what is there"
        )
    spec = CacheSpec.from_document(parse_json(data, "cache.json"))
    if spec.id != cache_id:
        raise DamagedError(f"cache.json of {cache_id[:12]} has digest {spec.id[:12]}; mirror again")
    return spec


def read_committed_receipts(workspace: Workspace, plan: Plan, commit: Commit) -> list[Receipt]:
    """Read the receipts of a finished cache in one request, checked against its commit.

    Raises
    ------
    DamagedError
        If they are not what was committed, or do not cover the plan.
    """
    data = workspace.read(cache_key(plan.cache, "receipts.parquet"))
    if sha256(data) != commit.receipts:
        raise DamagedError(
            f"receipts.parquet of cache {plan.cache[:12]} is not what was committed; mirror again"
        )
    receipts = decode_receipts(data)
    _check_rows(plan, receipts)
    if [receipt.shard for receipt in receipts] != list(range(plan.shard_count)):
        raise DamagedError(f"receipts.parquet of cache {plan.cache[:12]} lacks shards; run verify")
    return receipts


def _check_rows(plan: Plan, receipts: Sequence[Receipt] | Any) -> None:
    for receipt in receipts:
        if range(receipt.start, receipt.stop) != plan.shard_rows(receipt.shard):
            raise DamagedError(
                f"the receipt of shard {receipt.shard} covers rows {receipt.start} to "
                f"{receipt.stop}, which is not the plan's; run verify on this cache"
            )


def _create(workspace: Workspace, cache_id: str, name: str, data: bytes) -> None:
    key = cache_key(cache_id, name)
    if not workspace.create(key, data) and workspace.read(key) != data:
        raise DamagedError(f"{name} of cache {cache_id[:12]} differs from what belongs there")


def _readable(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()
