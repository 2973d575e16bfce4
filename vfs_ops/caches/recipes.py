"""From a description to the model again: of a cache, or for another process that computes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vfs_ops.errors import ExtractorMismatchError, ModelError
from vfs_ops.identity.preprocessing import Preprocessing
from vfs_ops.identity.spec import Precision, lowest_precision
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.models.loading import LoadedModel, load_model, weights_fingerprint

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache


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
    model = _from_library(spec.model, source, spec.preprocessing, checkpoint)
    name = spec.layer if spec.output is None else f"{spec.layer}#{spec.output}"
    precision = lowest_precision(cache.spec.precision)
    return FeatureExtractor(model, [name], precision=precision, device=device)


@dataclass(frozen=True, eq=False)
class ModelRecipe:
    """What another process needs to make the same extractor; small, unless it holds a module."""

    reference: str
    source: str
    """Where the weights came from, as `LoadedModel.weights`."""
    fingerprint: str
    """Of the weights; what is made must have it."""
    num_prefix_tokens: int
    preprocessing: Preprocessing
    layers: tuple[str, ...]
    precision: Precision
    device: str | None
    """None takes a GPU where there is one."""
    module: torch.nn.Module | None
    """The user's own module, or one with the weights of a local checkpoint; None for models that a
    library gives everywhere."""


def recipe_of(extractor: FeatureExtractor) -> ModelRecipe:
    """Describe an extractor for other processes.

    A model that is a library's, with the library's or seeded weights, is only named. A module
    from Python, and one with the weights of a checkpoint, which other machines may not have, goes
    along. An extractor that is kept on the CPU beside a GPU stays on CPUs.
    """
    model = extractor.model
    travels = model.reference.startswith("custom:") or model.weights == "checkpoint"
    on_cpu = extractor.device == "cpu"
    module = None
    if travels:
        module = model.module if on_cpu else copy.deepcopy(model.module).cpu()
    return ModelRecipe(
        reference=model.reference,
        source=model.weights,
        fingerprint=model.fingerprint,
        num_prefix_tokens=model.num_prefix_tokens,
        preprocessing=model.preprocessing,
        layers=tuple(info.name for info in extractor.infos),
        precision=extractor.precision,
        device="cpu" if on_cpu and torch.cuda.is_available() else None,
        module=module,
    )


def extractor_of(recipe: ModelRecipe) -> FeatureExtractor:
    """Make the extractor that a recipe describes.

    Raises
    ------
    ExtractorMismatchError
        If the weights that are loaded here are others.
    ModelError, UnavailableError, MissingDependencyError
        If the model cannot be loaded here.
    """
    if recipe.module is None:
        model = _from_library(recipe.reference, recipe.source, recipe.preprocessing, None)
        found = model.fingerprint
    else:
        module = recipe.module.eval()
        found = weights_fingerprint(module)
        model = LoadedModel(
            recipe.reference,
            recipe.source,
            module,
            recipe.preprocessing,
            found,
            recipe.num_prefix_tokens,
        )
    if found != recipe.fingerprint:
        raise ExtractorMismatchError(
            f"{recipe.reference} ({recipe.source}) has weights {found[:12]} here, and "
            f"{recipe.fingerprint[:12]} where the build was started; install the same versions of "
            "the libraries"
        )
    return FeatureExtractor(model, recipe.layers, precision=recipe.precision, device=recipe.device)


def _from_library(
    reference: str, source: str, preprocessing: Preprocessing, checkpoint: str | Path | None
) -> LoadedModel:
    """Load a library's model by what `LoadedModel.weights` says of where its weights came from."""
    library = reference.partition(":")[0]
    named = None if source in ("checkpoint", "package") else source.removeprefix(f"{library}:")
    return load_model(reference, weights=named, checkpoint=checkpoint, preprocessing=preprocessing)
