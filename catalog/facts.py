"""What a dataset or cache itself says, as the JSON values that its entry holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache
    from vfs_ops.datasets.dataset import Dataset


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """Return the facts of a dataset: images, how many of them failed, the manifest's columns."""
    return {
        "images": dataset.count,
        "unreadable": dataset.count - dataset.table(["error"])["error"].null_count,
        "images_id": dataset.images_id,
        "columns": dataset.column_names(),
    }


def cache_facts(cache: Cache, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a cache.

    ``dataset`` is `shown`: name, id, split and version of the dataset that the cache is shown with.
    ``recipe`` is the document whose digest is the cache's id: model, weights fingerprint, layer,
    every step of the preprocessing, precision, stored dtype, origin. ``checksum`` is the SHA-256 of
    ``complete.json``, which holds the digests of all else. ``grid`` is in cells, ``stride`` in
    pixels of the preprocessed image between two cells, both along y and x.
    """
    from vfs_ops.caches.layout import cache_key, sha256
    from vfs_ops.store.locations import MAX_DOCUMENT_BYTES

    key = cache_key(cache.id, "complete.json")
    commit = cache.workspace.read(key, most=MAX_DOCUMENT_BYTES)
    plan, extractor = cache.plan, cache.spec.extractor
    height, width = extractor.preprocessing.input_size
    return {
        "dataset": dict(shown),
        "images": cache.count,
        "unreadable": len(cache.invalid),
        "model": extractor.model,
        "weights": plan.weights,
        "weights_fingerprint": extractor.weights,
        "layer": extractor.layer,
        "extractor_id": extractor.id,
        "grid": list(plan.grid),
        "channels": plan.channels,
        "stride": [height / plan.grid[0], width / plan.grid[1]],
        "input_size": [height, width],
        "precision": cache.spec.precision,
        "dtype": cache.spec.dtype,
        "origin": cache.spec.origin,
        "shards": plan.shard_count,
        "bytes": cache.feature_bytes,
        "checksum": sha256(commit),
        "finished": max(receipt.finished for receipt in cache.receipts),
        "versions": dict(plan.versions),
        "recipe": cache.spec.document(),
    }
