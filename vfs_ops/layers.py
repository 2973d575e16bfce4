"""Which layers of a model give feature maps, and how their axes are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vfs_ops.errors import ModelError, NotAFeatureMapError, UnknownModelError
from vfs_ops.forward import run
from vfs_ops.model_libraries import close_to
from vfs_ops.models import LoadedModel
from vfs_ops.spec import Axes, StoredDtype

_DRY_BATCH = 2  # tells the batch axis from axes of one


@dataclass(frozen=True)
class LayerInfo:
    """One output of one layer that is a feature map."""

    name: str
    """What names it: ``path``, or ``path#output``."""
    layer: str
    """Dotted path of the module."""
    output: int | str | None
    """Which of its outputs, where it returns a sequence or mapping."""
    axes: Axes
    """How its axes are read."""
    prefix_tokens: int
    """Leading tokens that are dropped before folding; 0 unless ``tokens``."""
    grid: tuple[int, int]
    """Cells in y and x, for inputs of the model's preprocessing."""
    channels: int
    stride: tuple[float, float]
    """Input pixels per cell in y and x."""

    def cache_bytes(self, images: int, dtype: StoredDtype = "float16") -> int:
        """Return the bytes of a cache before compression: features, squared norms, validity."""
        cells = self.grid[0] * self.grid[1]
        return images * (cells * (self.channels * np.dtype(dtype).itemsize + 4) + 1)


@dataclass(frozen=True)
class _Reading:
    axes: Axes
    prefix_tokens: int
    grid: tuple[int, int]
    channels: int


def list_layers(model: LoadedModel) -> list[LayerInfo]:
    """List every layer output that is a feature map, in the order of the model's modules.

    The model itself is not among its layers, nor are outputs of a single cell, nor
    ``torch.nn.Identity``, which adds nothing to the layer before it. Runs the model once.

    Raises
    ------
    ModelError
        If the model cannot take inputs of its own preprocessing.
    """
    paths = [
        path
        for path, module in model.module.named_modules()
        if path and not isinstance(module, torch.nn.Identity)
    ]
    reader = _Reader(model)
    layers = []
    for path, outputs in _shapes(model, paths).items():
        for output, shape in outputs.items():
            reading = reader.read(shape)
            if isinstance(reading, _Reading):
                layers.append(_info(model, path, output, reading))
    return layers


def find_layers(model: LoadedModel, names: Sequence[str]) -> list[LayerInfo]:
    """Look up layers by name, in the order given. Runs the model once.

    Parameters
    ----------
    names
        Dotted paths, as ``"blocks.3"``; where a layer returns several outputs, with ``#`` and the
        index or key of one: ``"encoder#0"``.

    Raises
    ------
    ModelError
        If no name is given, or one twice.
    UnknownModelError
        If the model has no such layer; names close ones.
    NotAFeatureMapError
        If its output has no grid of cells; says why, and names layers nearby that have.
    """
    if not names or len(set(names)) != len(names):
        raise ModelError(f"layers are {list(names)!r}; expected at least one, each once")
    known = [path for path, _ in model.module.named_modules(remove_duplicate=False) if path]
    paths = [name.partition("#")[0] for name in names]
    for path in paths:
        if path not in known:
            raise UnknownModelError(
                f"{model.reference} has no layer {path[:100]!r}{close_to(path, known)}; "
                "list_layers names all that can be used"
            )
    shapes, reader = _shapes(model, paths), _Reader(model)
    return [
        _find(model, reader, name, path, shapes.get(path))
        for name, path in zip(names, paths, strict=True)
    ]


def pick(output: Any, key: int | str | None) -> torch.Tensor | None:
    """Return the tensor that a layer returned under a key; None if it did not."""
    tensors = _tensors(output)
    return tensors.get(key)


def _tensors(output: Any) -> dict[int | str | None, torch.Tensor]:
    items: Iterable[tuple[Any, Any]]
    if isinstance(output, torch.Tensor):
        return {None: output}
    if isinstance(output, Mapping):
        items = ((key, value) for key, value in output.items() if isinstance(key, str))
    elif isinstance(output, Sequence):
        items = enumerate(output)
    else:
        items = ()
    return {key: value for key, value in items if isinstance(value, torch.Tensor)}


def _shapes(
    model: LoadedModel, paths: Iterable[str]
) -> dict[str, dict[int | str | None, tuple[int, ...]]]:
    found: dict[str, dict[int | str | None, tuple[int, ...]]] = {}

    def record(path: str) -> Callable[[Any], None]:
        def show(output: Any) -> None:
            found[path] = {key: tuple(value.shape) for key, value in _tensors(output).items()}

        return show

    size = (*model.preprocessing.input_size, model.preprocessing.channels)
    grey = np.full((_DRY_BATCH, *size), 127, np.uint8)  # shapes do not depend on the values
    paths = list(dict.fromkeys(paths))
    run(model.module, grey, model.preprocessing, {path: record(path) for path in paths})
    return {path: found[path] for path in paths if path in found}


def _find(
    model: LoadedModel,
    reader: _Reader,
    name: str,
    path: str,
    outputs: Mapping[int | str | None, tuple[int, ...]] | None,
) -> LayerInfo:
    _, marked, wanted = name.partition("#")
    key: int | str | None = None if not marked else wanted
    if outputs is None:
        reason = "it is not called in a forward pass"
    elif not outputs:
        reason = "it returns no tensor"
    else:
        if key not in outputs and wanted.isascii() and wanted.isdigit():
            key = int(wanted[:9])
        if key in outputs:
            reading = reader.read(outputs[key])
            if isinstance(reading, _Reading):
                return _info(model, path, key, reading)
            reason = reading
        elif None in outputs:
            reason = "it returns one tensor, so it takes no '#'"
        else:
            choices = ", ".join(f"{path}#{output}" for output in outputs)
            reason = f"it returns several outputs; choose one of {choices[:200]}"
    raise NotAFeatureMapError(
        f"{name[:100]} of {model.reference} is no feature map: {reason}{_near(model, path)}"
    )


def _info(model: LoadedModel, path: str, output: int | str | None, reading: _Reading) -> LayerInfo:
    height, width = model.preprocessing.input_size
    return LayerInfo(
        name=path if output is None else f"{path}#{output}",
        layer=path,
        output=output,
        axes=reading.axes,
        prefix_tokens=reading.prefix_tokens,
        grid=reading.grid,
        channels=reading.channels,
        stride=(height / reading.grid[0], width / reading.grid[1]),
    )


def _near(model: LoadedModel, path: str) -> str:
    order = {name: place for place, (name, _) in enumerate(model.module.named_modules())}
    here = order.get(path, 0)
    usable = sorted(list_layers(model), key=lambda info: abs(order[info.layer] - here))
    if not usable:
        return "; the model has no layer that is one"
    return f"; layers nearby that are: {', '.join(info.name for info in usable[:3])}"


class _Reader:
    """Reads the axes of outputs by the proportions of the input and what the model states."""

    def __init__(self, model: LoadedModel) -> None:
        self._size = model.preprocessing.input_size
        self._prefixes = sorted({model.num_prefix_tokens, 0}, reverse=True)
        self._grid = _stated_grid(model.module, self._size)
        self._shuffled = hasattr(model.module, "reroll")  # timm's Hiera: tokens by mask unit

    def read(self, shape: tuple[int, ...]) -> _Reading | str:
        """Return the reading of an output's shape, or the reason why there is none."""
        if len(shape) not in (3, 4) or shape[0] != _DRY_BATCH or 0 in shape:
            return f"its output has shape {shape} for {_DRY_BATCH} images"
        reading = self._read_map(shape) if len(shape) == 4 else self._read_tokens(shape)
        if reading is None:
            height, width = self._size
            return (
                f"its output of shape {shape} has no axes in proportion to an input of "
                f"{height}×{width} pixels"
            )
        if reading.grid == (1, 1):
            return "its output has a single cell, so that nothing has a place"
        return reading

    def _read_map(self, shape: tuple[int, ...]) -> _Reading | None:
        _, first, second, third = shape
        if self._counts_tokens(second):
            return None  # (image, head, token, …): attention
        first_last = (
            _Reading("nchw", 0, (second, third), first),
            _Reading("nhwc", 0, (first, second), third),
        )
        fitting = [reading for reading in first_last if self._misfit(reading.grid) <= 1]
        return min(fitting, key=lambda reading: self._misfit(reading.grid), default=None)

    def _counts_tokens(self, length: int) -> bool:
        if self._grid is not None:
            cells = math.prod(self._grid)
            return length != self._grid[0] and length - cells in self._prefixes
        return any(prefix > 0 and self._fold(length - prefix) for prefix in self._prefixes)

    def _misfit(self, grid: tuple[int, int]) -> float:
        # Cells by which a grid differs from the input's proportions; strides round within one.
        height, width = self._size
        return abs(grid[0] * width - grid[1] * height) / max(height, width)

    def _read_tokens(self, shape: tuple[int, ...]) -> _Reading | None:
        _, length, channels = shape
        if self._shuffled:
            return None
        for prefix in self._prefixes:
            grid = self._fold(length - prefix)
            if grid is not None:
                return _Reading("tokens", prefix, grid, channels)
        return None

    def _fold(self, tokens: int) -> tuple[int, int] | None:
        """Return the grid of that many tokens with the proportions of the input, exactly."""
        height, width = self._grid or self._size
        divisor = math.gcd(height, width)
        units = math.isqrt(max(tokens, 0) * divisor**2 // (height * width))
        grid = (units * height // divisor, units * width // divisor)
        if units == 0 or grid[0] * grid[1] != tokens:
            return None
        # A model that states its grid coarsens it by whole factors, or leaves it.
        return grid if self._grid is None or height % grid[0] == 0 else None


def _stated_grid(module: torch.nn.Module, size: tuple[int, int]) -> tuple[int, int] | None:
    """Return the grid of a model that cuts its input into patches and says so.

    timm's have a ``patch_embed`` with ``grid_size``; torchvision's have ``image_size`` themselves.
    """
    patches = getattr(module, "patch_embed", None)
    states = patches if hasattr(patches, "grid_size") else module
    patch = getattr(states, "patch_size", None)
    if type(patch) is int:
        patch = (patch, patch)
    if not isinstance(patch, tuple | list) or len(patch) != 2:
        return None
    if not all(type(side) is int and side > 0 for side in patch):
        return None
    grid = (size[0] // patch[0], size[1] // patch[1])
    return grid if min(grid) > 0 else None
