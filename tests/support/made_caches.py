"""Finished caches of given features, for tests and benchmarks: no image, no model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from makers import make_cache_spec, make_plan

from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.caches.commits import commit
from vfs_ops.caches.layout import begin, write_receipt, write_shard
from vfs_ops.caches.plans import choose_sizes
from vfs_ops.caches.receipts import Receipt
from vfs_ops.datasets.dataset import Dataset, folder_of, open_dataset
from vfs_ops.datasets.manifests import OWN_COLUMNS, dataset_document, encode_manifest
from vfs_ops.identity.canonical import canonical_json, document_id
from vfs_ops.identity.spec import shard_inputs
from vfs_ops.images.geometry import Frame, Region
from vfs_ops.kernel.exact import Pattern
from vfs_ops.scans.highlights import Highlight
from vfs_ops.scans.pictures import picture_of
from vfs_ops.scans.queries import Query
from vfs_ops.store.workspace import Workspace

PIXELS = 224


def digest_of(row: int) -> bytes:
    """Return the content digest of a row of a made dataset."""
    return hashlib.sha256(b"%d" % row).digest()


def made_dataset(
    workspace: Workspace, images: int, labels: Sequence[str | None] | None = None
) -> Dataset:
    """Store a dataset of images that never existed."""
    rows = {
        "uri": [f"{row:06d}.jpg" for row in range(images)],
        "digest": [digest_of(row) for row in range(images)],
        "width": [PIXELS] * images,
        "height": [PIXELS] * images,
        "label": [f"label {row % 10}" for row in range(images)] if labels is None else labels,
    }
    columns = [rows.get(name, [None] * images) for name in OWN_COLUMNS.names]
    table = pa.table(columns, schema=OWN_COLUMNS)
    document = dataset_document(table)
    dataset = document_id(document)
    workspace.create(f"{folder_of(dataset)}/manifest.parquet", encode_manifest(table))
    workspace.create(f"{folder_of(dataset)}/dataset.json", canonical_json(document))
    return open_dataset(workspace, dataset)


def made_cache(
    workspace: Workspace,
    features: np.ndarray | Callable[[range], np.ndarray],
    *,
    images: int | None = None,
    shape: tuple[int, int, int] | None = None,
    dtype: str = "float16",
    images_per_shard: int | None = None,
    images_per_chunk: int | None = None,
    codec: str = "none",
    labels: Sequence[str | None] | None = None,
    invalid: Sequence[int] = (),
) -> Cache:
    """Store features, shape (image, y, x, channel), or what makes those of a range of rows."""
    if not callable(features):
        whole = features
        images, shape = len(whole), whole.shape[1:]
        features = lambda rows: whole[rows.start : rows.stop]  # noqa: E731
    dataset = made_dataset(workspace, images, labels)
    spec = make_cache_spec(dataset.images_id, dtype)
    per_shard, per_chunk, batch = choose_sizes(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    per_shard = images_per_shard or per_shard
    plan = make_plan(
        cache=spec.id,
        dataset=dataset.id,
        images=images,
        grid=shape[:2],
        channels=shape[2],
        dtype=dtype,
        images_per_shard=per_shard,
        images_per_chunk=min(images_per_chunk or per_chunk, per_shard),
        batch_size=min(batch, per_shard),
        codec=codec,
    )
    plan = begin(workspace, spec, plan, np.zeros(shape, np.float32))
    for shard in range(plan.shard_count):
        here = plan.shard_rows(shard)
        values = np.ascontiguousarray(features(here), dtype)
        stored = write_shard(
            workspace, plan, shard, values, {row: "made so" for row in invalid if row in here}
        )
        receipt = Receipt(
            **stored.fields,
            inputs=shard_inputs(spec, map(digest_of, here)),
            seconds=0.0,
            host="made",
            finished=datetime.now(UTC).isoformat(),
        )
        write_receipt(workspace, spec.id, receipt)
    commit(workspace, plan)
    return open_cache(workspace, spec.id)


def made_query(
    cache: Cache, weights: np.ndarray, features: np.ndarray, digest: bytes | None = None
) -> Query:
    """Return a query of given weights and features, shape (y, x) and (y, x, channel)."""
    weights = np.ascontiguousarray(weights, np.float32)
    frame = Frame.of(PIXELS, PIXELS, cache.spec.extractor.preprocessing)
    return Query(
        region=Region(weights, 0, 0, cache.grid),
        features=np.asarray(features, np.float32),
        pattern=Pattern.of(weights, features),
        extractor=cache.spec.extractor,
        precision=cache.spec.precision,
        probe=None,
        digest=digest,
        picture=picture_of(None, np.full((PIXELS, PIXELS), 255, np.uint8), frame),
        highlight=Highlight(),
        visible=1.0,
    )
