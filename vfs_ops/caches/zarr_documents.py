"""The Zarr v3 metadata of a cache: a function of its plan, so nothing else is ever accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vfs_ops.caches.plans import Plan
from vfs_ops.identity.spec import CacheSpec

_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def group_document(spec: CacheSpec, plan: Plan) -> dict[str, Any]:
    """Return the group's ``zarr.json``, with the metadata of its arrays consolidated in it.

    Readers compare what is stored with this, so stored metadata can choose neither codecs nor
    sizes.
    """
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {
            "visual_feature_search_format": plan.format,
            "cache": spec.id,
            "model": spec.extractor.model,
            "layer": spec.extractor.layer,
        },
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": array_documents(spec, plan),
        },
    }


def array_documents(spec: CacheSpec, plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the ``zarr.json`` of every array, by name."""
    (rows, columns), per_shard = plan.grid, plan.images_per_shard
    height, width = spec.extractor.preprocessing.input_size
    pixels = {"units": "pixels of the preprocessed image, at the middle of the cell"}
    chunk_codecs: list[dict[str, Any]] = [_BYTES]
    if plan.codec == "zstd":
        chunk_codecs.append({"name": "zstd", "configuration": {"level": 1, "checksum": False}})
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [plan.images_per_chunk, *plan.image_shape],
            "codecs": chunk_codecs,
            "index_codecs": [_BYTES, {"name": "crc32c"}],
            "index_location": "end",
        },
    }
    return {
        "features": _array(
            ("image", "y", "x", "channel"),
            (plan.images, *plan.image_shape),
            (per_shard, *plan.image_shape),
            plan.dtype,
            sharding,
        ),
        "sq_norm": _array(
            ("image", "y", "x"), (plan.images, rows, columns), (per_shard, rows, columns), "float32"
        ),
        "valid": _array(("image",), (plan.images,), (per_shard,), "bool"),
        "probe": _array(("y", "x", "channel"), plan.image_shape, plan.image_shape, "float32"),
        "y": _array(("y",), (rows,), (rows,), "float32", attributes={**pixels, "size": height}),
        "x": _array(
            ("x",), (columns,), (columns,), "float32", attributes={**pixels, "size": width}
        ),
    }


def _array(
    dimensions: Sequence[str],
    shape: Sequence[int],
    chunk: Sequence[int],
    dtype: str,
    codec: dict[str, Any] | None = None,
    attributes: dict[str, Any] | None = None,
) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": "bytes"} if dtype == "bool" else _BYTES
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if dtype == "bool" else 0.0,
        "codecs": [codec or plain],
        "dimension_names": list(dimensions),
        "attributes": attributes or {},
        "storage_transformers": [],
    }
