"""Resizing without antialiasing, as `torch.nn.functional.interpolate` does it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]


def interpolate(
    pixels: Array, size: tuple[int, int], interpolation: Literal["bilinear", "bicubic"]
) -> Array:
    """Sample an image at the pixel centres of another size; edges repeat.

    Parameters
    ----------
    pixels
        uint8 of shape (height, width) or (height, width, channels).
    size
        The new (width, height).
    interpolation
        ``bicubic`` is Keys' cubic convolution (1981) with a = -0.75, torch's choice.

    Returns
    -------
    numpy.ndarray
        uint8 of the new size, rounded half to even.
    """
    values = pixels.astype(np.float32)
    for axis, length in ((0, size[1]), (1, size[0])):
        values = _along(values, length, axis, interpolation)
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _along(values: Array, length: int, axis: int, interpolation: str) -> Array:
    old = values.shape[axis]
    centre = (np.arange(length) + 0.5) * (old / length) - 0.5
    start = np.floor(centre)
    t = (centre - start).astype(np.float32)
    if interpolation == "bilinear":
        weights = {0: 1 - t, 1: t}
    else:
        weights = {-1: _far(t + 1), 0: _near(t), 1: _near(1 - t), 2: _far(2 - t)}
    shape = [1] * values.ndim
    shape[axis] = length
    result = np.zeros((*values.shape[:axis], length, *values.shape[axis + 1 :]), np.float32)
    for offset, weight in weights.items():
        neighbour = (start.astype(np.int64) + offset).clip(0, old - 1)
        result += values.take(neighbour, axis) * weight.reshape(shape)
    return result


def _near(x: Array) -> Array:
    """Evaluate Keys' kernel at distances up to 1."""
    near: Array = (1.25 * x - 2.25) * x * x + 1
    return near


def _far(x: Array) -> Array:
    """Evaluate Keys' kernel at distances from 1 to 2."""
    far: Array = ((-0.75 * x + 3.75) * x - 6) * x + 3
    return far
