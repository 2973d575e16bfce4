"""Checkpoint files, which are untrusted: read as tensors alone, and fitted to a module exactly."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vfs_ops.errors import CheckpointError, NotFoundError

_WRAPPERS: Final = ("state_dict", "model_state_dict", "model")
_SHOWN: Final = 4

# All that torch's restricted unpickler and its zip reader raise on files that are none of theirs.
_GARBAGE: Final = (
    pickle.UnpicklingError,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    ImportError,
    MemoryError,
    struct.error,
)


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a local checkpoint without running anything it holds.

    Parameters
    ----------
    path
        A ``.safetensors`` file, or one that ``torch.save`` wrote: a state dict, or a mapping that
        holds one as ``state_dict``, ``model_state_dict`` or ``model``. A ``module.`` that stands
        before every name (left by data-parallel training) is taken off.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU, in the file's order.

    Raises
    ------
    NotFoundError
        If there is no such file.
    CheckpointError
        If it is no checkpoint, holds more than tensors (a pickle that would run code), or a tensor
        without plain values (``meta``, sparse, quantized).
    """
    if "://" in str(path):  # not shown: it may be a signed URL
        raise CheckpointError(
            "the checkpoint is a URL; expected a local file; download it and pass its path"
        )
    path = Path(path).expanduser()
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; expected a checkpoint file; name one in it")
    if not path.is_file():
        raise NotFoundError(f"there is no checkpoint {path}; check the path")
    tensors = _unwrap(path, _read(path))
    prefix = "module."
    if all(name.startswith(prefix) for name in tensors):
        return {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
    return tensors


def is_dense(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds one plain value per element: not lazy, meta, sparse, packed."""
    return not (
        torch.nn.parameter.is_lazy(tensor)
        or tensor.is_meta
        or tensor.is_nested
        or tensor.is_quantized
        or tensor.layout != torch.strided
    )


def load_checkpoint(module: torch.nn.Module, path: str | Path) -> None:
    """Load a checkpoint into a module whose parameters and buffers it must match one to one.

    Raises
    ------
    NotFoundError
        If there is no such file.
    CheckpointError
        If it is no checkpoint, or a tensor is missing, unexpected, or of another shape or kind.
    """
    load_tensors(module, read_state_dict(path), Path(path).name)


def load_tensors(module: torch.nn.Module, given: Mapping[str, torch.Tensor], what: str) -> None:
    """Copy named tensors into a module that has exactly these names and shapes.

    Raises
    ------
    CheckpointError
        If a tensor is missing, unexpected, or of another shape or kind (integer, float).
    """
    expected = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if isinstance(tensor, torch.Tensor)
    }
    problems = []
    if missing := [name for name in expected if name not in given]:
        problems.append(f"lacks {_some(missing)}")
    if unexpected := [name for name in given if name not in expected]:
        problems.append(f"has {_some(unexpected)} that the model does not have")
    if different := [
        f"{name} of {_kind(given[name])} where the model has {_kind(tensor)}"
        for name, tensor in expected.items()
        if name in given and _differs(tensor, given[name])
    ]:
        problems.append(f"has {_some(different)}")
    if problems:
        raise CheckpointError(
            f"{what} does not fit the model: it {'; it '.join(problems)}; "
            "give the checkpoint of this architecture, or the architecture of this checkpoint"
        )
    module.load_state_dict(dict(given), strict=False)  # compared above, with a better message


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path, device="cpu")
        except (SafetensorError, OSError, ValueError, MemoryError) as error:
            raise CheckpointError(
                f"{path} is no safetensors file ({type(error).__name__}); "
                "expected one, or a file of torch.save with another ending"
            ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the pickle's protocol; it is read or refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is no checkpoint of tensors alone: it is no pickle, or one that would run "
            "code, which is never done; expected a state dict; write one with "
            "torch.save(model.state_dict(), path)"
        ) from error
    except _GARBAGE as error:
        raise CheckpointError(
            f"{path} is no checkpoint ({type(error).__name__}), or a damaged one; expected a "
            "state dict written by torch.save or safetensors"
        ) from error


def _unwrap(path: Path, content: Any) -> dict[str, torch.Tensor]:
    if isinstance(content, Mapping):
        content = next(
            (content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content
        )
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}{' of nothing' if not content else ''}; "
            "expected a state dict: names and tensors"
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path} holds a {type(value).__name__} as {str(name)[:60]!r}; expected a state "
                f"dict: names and tensors, alone or as one of {', '.join(_WRAPPERS)}"
            )
        if not is_dense(value):
            raise CheckpointError(
                f"{path} holds {name[:120]} as a tensor of device {value.device.type}, layout "
                f"{value.layout} and {value.dtype}; expected dense tensors with values; save the "
                "state dict of the whole, unpacked model"
            )
    return dict(content)


def _differs(expected: torch.Tensor, given: torch.Tensor) -> bool:
    return (
        expected.shape != given.shape
        or expected.is_floating_point() != given.is_floating_point()
        or expected.is_complex() != given.is_complex()
    )


def _kind(tensor: torch.Tensor) -> str:
    return f"shape {tuple(tensor.shape)} and {tensor.dtype}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(name[:120] for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
