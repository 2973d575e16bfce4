"""Axes of a layer's output: which are rows, columns and channels, if any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import torch

from vfs_ops.identity.spec import Axes
from vfs_ops.models.loading import LoadedModel

DRY_BATCH: Final = 2
"""Images of a dry run; more than one, to tell the batch axis from axes of one."""

_SUM_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class Output:
    """What a dry run says of one output."""

    shape: tuple[int, ...]
    shares: frozenset[int]
    """Axes along which the values are shares that sum up to one everywhere."""

    @classmethod
    def of(cls, values: torch.Tensor) -> Self:
        """Return shape and shares of a tensor; the values do not outlive the call."""
        return cls(tuple(values.shape), _shares(values))


@dataclass(frozen=True)
class Reading:
    """How the axes of an output are read."""

    axes: Axes
    prefix_tokens: int
    grid: tuple[int, int]
    """Cells in y and x."""
    channels: int


def _shares(values: torch.Tensor) -> frozenset[int]:
    if values.ndim not in (3, 4) or not values.is_floating_point() or not values.numel():
        return frozenset()
    if bool((values < 0).any()):
        return frozenset()
    return frozenset(
        axis
        for axis in range(1, values.ndim)
        if values.shape[axis] > 1
        and bool(((values.float().sum(axis) - 1).abs() < _SUM_TOLERANCE).all())
    )


class Reader:
    """Reads the axes of outputs by the proportions of the input and what the model states."""

    def __init__(self, model: LoadedModel) -> None:
        self._size = model.preprocessing.input_size
        self._prefixes = sorted({model.num_prefix_tokens, 0}, reverse=True)
        self._grid = _stated_grid(model.module, self._size)
        self._shuffled = hasattr(model.module, "reroll")  # timm's Hiera: tokens by mask unit

    def read(self, output: Output, around: Sequence[tuple[int, int]]) -> Reading | str:
        """Return the reading of an output, or the reason why there is none.

        Parameters
        ----------
        output
            Its shape and values.
        around
            Tokens and channels of what the attention that the layer is part of returns.
        """
        shape = output.shape
        if len(shape) not in (3, 4) or shape[0] != DRY_BATCH or 0 in shape:
            return f"its output has shape {shape} for {DRY_BATCH} images"
        reading = self._read_map(shape) if len(shape) == 4 else self._read_tokens(shape)
        if reading is None:
            height, width = self._size
            return (
                f"its output of shape {shape} has no axes in proportion to an input of "
                f"{height}×{width} pixels"
            )
        if reading.grid == (1, 1):
            return "its output has a single cell, so that nothing has a place"
        if _is_attention(reading, output, around):
            return (
                f"its output of shape {shape} holds attention weights, whose axes are tokens or "
                "channels and no places"
            )
        return reading

    def _read_map(self, shape: tuple[int, ...]) -> Reading | None:
        _, first, second, third = shape
        if self._counts_tokens(second):
            return None  # (image, head, token, …): attention
        first_last = (
            Reading("nchw", 0, (second, third), first),
            Reading("nhwc", 0, (first, second), third),
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

    def _read_tokens(self, shape: tuple[int, ...]) -> Reading | None:
        _, length, channels = shape
        if self._shuffled:
            return None
        for prefix in self._prefixes:
            grid = self._fold(length - prefix)
            if grid is not None:
                return Reading("tokens", prefix, grid, channels)
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


def _is_attention(reading: Reading, output: Output, around: Sequence[tuple[int, int]]) -> bool:
    """Return whether rows and columns of a reading are tokens by tokens, or channels by channels.

    A softmax tells it: no map of features sums up to one along each of its rows. Before the
    softmax, or without one, the sizes tell it: those of a square ``(head, n, n)`` inside an
    attention that returns n tokens, or head · n channels.
    """
    high, wide = reading.grid
    if reading.axes == "tokens":
        return high * wide == reading.channels and bool(output.shares)
    rows_and_columns = {2, 3} if reading.axes == "nchw" else {1, 2}
    if output.shares & rows_and_columns:
        return True
    return high == wide and any(
        high == tokens or high * reading.channels == channels for tokens, channels in around
    )


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
