"""Which layers of a model give feature maps, and how their axes are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from vfs_ops.errors import ModelError, NotAFeatureMapError, UnknownModelError
from vfs_ops.identity.spec import Axes, StoredDtype
from vfs_ops.models.forward import run
from vfs_ops.models.loading import LoadedModel
from vfs_ops.models.model_libraries import close_to
from vfs_ops.models.readings import DRY_BATCH, Output, Reader, Reading

_ATTENTION: Final = re.compile("attn|attention|xca", re.IGNORECASE)

_Outputs = Mapping[int | str | None, Output]


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
    dry = _dry_run(model, paths)
    reader = Reader(model)
    layers = []
    for path, outputs in dry.items():
        for output, seen in outputs.items():
            reading = reader.read(seen, _attention_around(model, path, dry))
            if isinstance(reading, Reading):
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
                "`vfs layers` (list_layers) names all that can be used"
            )
    dry = _dry_run(model, [*paths, *filter(None, map(_parent, paths))])
    reader = Reader(model)
    return [_find(model, reader, name, path, dry) for name, path in zip(names, paths, strict=True)]


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


def _dry_run(model: LoadedModel, paths: Iterable[str]) -> dict[str, _Outputs]:
    found: dict[str, _Outputs] = {}

    def record(path: str) -> Callable[[Any], None]:
        def show(output: Any) -> None:
            found[path] = {key: Output.of(value) for key, value in _tensors(output).items()}

        return show

    size = (*model.preprocessing.input_size, model.preprocessing.channels)
    grey = np.full((DRY_BATCH, *size), 127, np.uint8)  # shapes do not depend on the values
    paths = list(dict.fromkeys(paths))
    run(model.module, grey, model.preprocessing, {path: record(path) for path in paths})
    return {path: found[path] for path in paths if path in found}


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _attention_around(
    model: LoadedModel, path: str, dry: Mapping[str, _Outputs]
) -> list[tuple[int, int]]:
    """Return tokens and channels of what the module around returns, if it is an attention."""
    parent = _parent(path)
    named = parent.rpartition(".")[2], type(model.module.get_submodule(parent)).__name__
    if parent not in dry or not any(map(_ATTENTION.search, named)):
        return []
    shapes = (output.shape for output in dry[parent].values())
    return [(shape[1], shape[2]) for shape in shapes if len(shape) == 3]


def _find(
    model: LoadedModel,
    reader: Reader,
    name: str,
    path: str,
    dry: Mapping[str, _Outputs],
) -> LayerInfo:
    outputs = dry.get(path)
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
            reading = reader.read(outputs[key], _attention_around(model, path, dry))
            if isinstance(reading, Reading):
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


def _info(model: LoadedModel, path: str, output: int | str | None, reading: Reading) -> LayerInfo:
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
