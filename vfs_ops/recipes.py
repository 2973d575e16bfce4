"""From a cache back to the model that made it, so that new images can be looked for in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vfs_ops.errors import ModelError
from vfs_ops.extract import FeatureExtractor
from vfs_ops.models import load_model

if TYPE_CHECKING:
    from vfs_ops.caches import Cache


def load_extractor(
    cache: Cache, *, checkpoint: str | Path | None = None, device: str | None = None
) -> FeatureExtractor:
    """Load the model and layer that a cache was computed with.

    Only models of known libraries are loaded; a cache runs no code of its own. Whether the loaded
    weights are the cache's is checked when a query made with them is searched for.

    Parameters
    ----------
    cache
        The cache to be searched.
    checkpoint
        The local checkpoint, for a cache that was computed with one.
    device
        As for `FeatureExtractor`.

    Raises
    ------
    ModelError
        If the cache was computed with a checkpoint that is not given, or with a module from Python.
    UnavailableError
        If the library's weights cannot be downloaded.
    """
    spec, source = cache.spec.extractor, cache.plan.weights
    if spec.model.startswith("custom:"):
        raise ModelError(
            f"cache {cache.id[:12]} was computed with {spec.model}, a module from Python; load "
            "that module and make a FeatureExtractor of it"
        )
    if source == "checkpoint" and checkpoint is None:
        raise ModelError(
            f"cache {cache.id[:12]} was computed with a local checkpoint of {spec.model}; give "
            "that file as checkpoint"
        )
    library = spec.model.partition(":")[0]
    weights = source.removeprefix(f"{library}:")
    model = load_model(
        spec.model,
        weights=None if source in ("checkpoint", "package") else weights,
        checkpoint=checkpoint,
        preprocessing=spec.preprocessing,
    )
    name = spec.layer if spec.output is None else f"{spec.layer}#{spec.output}"
    return FeatureExtractor(model, [name], precision=cache.spec.precision, device=device)
