"""Model references to modules that are ready to extract: weights, preprocessing, fingerprint."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from vfs_ops.errors import ModelError, UnavailableError, UnknownModelError
from vfs_ops.identity.canonical import check_name
from vfs_ops.identity.preprocessing import Preprocessing
from vfs_ops.models.checkpoints import is_dense, load_checkpoint
from vfs_ops.models.model_libraries import Architecture, find_architecture

_RANDOM: Final = re.compile(r"random:([0-9]{1,18})")
_PREFIX_PARAMETERS: Final = ("cls_token", "class_token", "register_tokens")


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, with all that identifies what it computes but its code."""

    reference: str
    """``torchvision:NAME``, ``timm:NAME``, ``efficientnet-lite0|1|2`` or ``custom:NAME``."""
    weights: str
    """Where the weights came from, for people: ``torchvision:IMAGENET1K_V2``, ``timm:a1_in1k``,
    ``package``, ``checkpoint``, ``random:0`` or ``given``. The fingerprint identifies them."""
    module: torch.nn.Module
    preprocessing: Preprocessing
    fingerprint: str
    """See `weights_fingerprint`."""
    num_prefix_tokens: int
    """Class and register tokens before the tokens of the grid; 0 for models without tokens."""


def load_model(
    reference: str | torch.nn.Module,
    *,
    weights: str | None = None,
    checkpoint: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    name: str | None = None,
) -> LoadedModel:
    """Load a model for extraction.

    Parameters
    ----------
    reference
        ``torchvision:NAME``, ``timm:NAME``, ``efficientnet-lite0|1|2``, or any module. A module is
        copied, so that the caller may go on training it.
    weights
        The library's own name (torchvision: ``"IMAGENET1K_V2"``, ``"DEFAULT"``; timm: the tag, as
        ``"a1_in1k"``), or ``"random:SEED"`` for a seeded initialisation. The library's default if
        None.
    checkpoint
        A local file whose tensors take the place of the library's weights; `weights` then only
        says whose preprocessing to take.
    preprocessing
        Takes the place of what the metadata of the library's weights say. Required for a module.
    name
        Names a module's architecture; required for a module, and only there.

    Returns
    -------
    LoadedModel

    Raises
    ------
    UnknownModelError
        If there is no such model or weights; names close ones.
    ModelError
        If it is a model of videos, or the arguments contradict each other.
    CheckpointError, NotFoundError
        If the checkpoint is not one, does not fit, or is not there.
    SpecError
        If the metadata cannot say the preprocessing; give it.
    UnavailableError
        If the library's weights could not be downloaded.
    MissingDependencyError
        If the weights are in a package that is not installed.

    Examples
    --------
    >>> load_model("efficientnet-lite0").preprocessing.input_size  # doctest: +SKIP
    (224, 224)
    """
    seed = None if weights is None else _RANDOM.fullmatch(weights)
    if seed is not None and checkpoint is not None:
        raise ModelError(f"weights {weights!r} and a checkpoint were given; give one of them")
    if isinstance(reference, torch.nn.Module):
        reference, module, source = _given(reference, weights, name)
        if preprocessing is None:
            raise ModelError(f"{reference} comes without preprocessing; give preprocessing=")
    else:
        if name is not None:
            raise ModelError(f"name {name!r} was given with {reference!r}; it names modules alone")
        found = find_architecture(reference, None if seed is not None else weights)
        pretrained = seed is None and checkpoint is None
        module = _create(found, pretrained, int(seed[1]) if seed else 0)
        _lay_channels_last(module)
        source = str(found.weights if pretrained else weights)
        if preprocessing is None:
            preprocessing = found.preprocessing(module)
    if checkpoint is not None:
        load_checkpoint(module, checkpoint)
        source = "checkpoint"
    module.eval().requires_grad_(False)
    return LoadedModel(
        reference=reference,
        weights=source,
        module=module,
        preprocessing=preprocessing,
        fingerprint=weights_fingerprint(module),
        num_prefix_tokens=_count_prefix_tokens(module),
    )


def weights_fingerprint(module: torch.nn.Module) -> str:
    """Return the SHA-256 over every parameter and buffer of a module, in order of their names.

    Name, dtype, shape and little-endian bytes of each are hashed, with their lengths, so that no
    two different sets of tensors give the same input. Shared tensors count under each name, and
    buffers that are not saved count too. Device, memory layout and training mode do not.

    Raises
    ------
    ModelError
        If a tensor holds no values yet (lazy, ``meta``), or is sparse or quantized.
    """
    tensors: dict[str, torch.Tensor] = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    whole = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        if not is_dense(tensor):
            raise ModelError(
                f"{name} is not a dense tensor with values; expected a model that is fully "
                "initialised; run it once, or convert it to a dense one"
            )
        header = f"{str(tensor.dtype).removeprefix('torch.')}:{tuple(tensor.shape)}"
        for part in (name.encode(), header.encode(), _little_endian(tensor)):
            whole.update(len(part).to_bytes(8, "little"))
            whole.update(part)
    return whole.hexdigest()


def _little_endian(tensor: torch.Tensor) -> memoryview:
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().reshape(-1)
    values: npt.NDArray[np.uint8] = flat.contiguous().view(torch.uint8).numpy()
    if sys.byteorder == "big":
        size = tensor.element_size() // (2 if tensor.is_complex() else 1)
        values = values.reshape(-1, size)[:, ::-1].copy()
    return values.reshape(-1).data


def _given(
    module: torch.nn.Module, weights: str | None, name: str | None
) -> tuple[str, torch.nn.Module, str]:
    if name is None:
        raise ModelError("a module was given without a name; give name= to tell it from others")
    if weights is not None:
        raise ModelError(
            f"weights {weights[:60]!r} were given with a module, which has its own; leave them "
            "out, or give checkpoint="
        )
    try:
        return f"custom:{check_name(name)}", copy.deepcopy(module), "given"
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"the module {name} cannot be copied ({type(error).__name__}); expected one whose "
            "attributes are parameters, buffers and plain values; detach tensors it keeps"
        ) from error


def _create(found: Architecture, pretrained: bool, seed: int) -> torch.nn.Module:
    if pretrained and found.weights is None:
        raise UnknownModelError(
            f"{found.reference} has no pretrained weights; give a checkpoint, or weights 'random:0'"
        )
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.default_generator.manual_seed(seed)
        if not pretrained:
            return found.create(False)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # libraries say what they download
                return found.create(True)
        except (OSError, RuntimeError) as error:  # its text may hold a URL with a secret
            raise UnavailableError(
                f"the weights {found.weights} of {found.reference} could not be downloaded or "
                f"read ({type(error).__name__}); look at the network and try again, or download "
                "the file elsewhere and give it as checkpoint"
            ) from error


def _lay_channels_last(module: torch.nn.Module) -> None:
    """Lay a library's module out for convolutions, which are then up to twice as fast, on CPUs too.

    Modules that are passed in keep their layout: they may call `view` on maps, which works in one
    layout alone. ``module.to(memory_format=…)`` would fail on kernels of five axes.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)


def _count_prefix_tokens(module: torch.nn.Module) -> int:
    stated = getattr(module, "num_prefix_tokens", None)  # timm says it
    if type(stated) is int and stated >= 0:
        return stated
    named = (getattr(module, name, None) for name in _PREFIX_PARAMETERS)
    shapes = (tuple(tensor.shape) for tensor in named if isinstance(tensor, torch.Tensor))
    return sum(shape[1] for shape in shapes if len(shape) == 3)
