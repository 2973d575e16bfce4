"""Transforms of images that also tell where each point goes: rotations, scalings, any other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vfs_ops.errors import QueryError

Points = NDArray[np.float64]
"""Shape (n, 2): x to the right and y down, in pixels from the outer corner of the image."""
Size = tuple[int, int]
"""Width and height in pixels."""

_BORDER_STEPS = 32  # points along each side of an image


@dataclass(frozen=True, eq=False)
class Transform:
    """A transform of an image, with the map of points that goes with it.

    Examples
    --------
    A mirror that a user writes:

    >>> from PIL import ImageOps
    >>> mirror = Transform(
    ...     parameter=1.0,
    ...     label="mirrored",
    ...     apply=ImageOps.mirror,
    ...     points=lambda points, size: np.array([size[0], 0]) + points * [-1, 1],
    ... )
    >>> mirror.points(np.array([[0.0, 5.0]]), (64, 48))
    array([[64.,  5.]])
    """

    parameter: float
    """Where it stands on the axis of a chart."""
    label: str
    """What to call it."""
    apply: Callable[[Image.Image], Image.Image]
    """Makes the transformed image, of any size, from a decoded one of mode RGB or L."""
    points: Callable[[Points, Size], Points]
    """Takes points of the original image to points of the transformed one, given the original's
    size; continuous, and no two points to the same."""

    def border(self, size: Size) -> Points:
        """Return where the border of an image of `size` goes, as a closed polygon."""
        steps = np.arange(_BORDER_STEPS) / _BORDER_STEPS
        zeros = np.zeros_like(steps)
        x = np.concatenate([steps, zeros + 1, 1 - steps, zeros])
        y = np.concatenate([zeros, steps, zeros + 1, 1 - steps])
        return self.at(np.column_stack([x, y]) * size, size)

    def at(self, points: Points, size: Size) -> Points:
        """Call `points` and check what it returns.

        Raises
        ------
        QueryError
            If that is no array of finite numbers of the same shape.
        """
        moved = np.asarray(self.points(points, size), np.float64)
        if moved.shape != points.shape or not np.isfinite(moved).all():
            raise QueryError(
                f"the points of transform {self.label!r} came back with shape {moved.shape} or "
                f"with numbers that are not finite; expected finite ones of shape {points.shape}"
            )
        return moved


def rotations(angles: Iterable[float]) -> tuple[Transform, ...]:
    """Return rotations about the middle of the image, which keeps its size.

    Parameters
    ----------
    angles
        In degrees, counterclockwise. Corners that turn in from outside are black.
    """
    return tuple(
        Transform(
            parameter=angle,
            label=f"{angle:g}°",
            apply=partial(_rotate, angle),
            points=partial(_rotate_points, angle),
        )
        for angle in map(_finite, angles)
    )


def scalings(factors: Iterable[float]) -> tuple[Transform, ...]:
    """Return scalings about the middle of the image, which keeps its size.

    Parameters
    ----------
    factors
        Above 0. Below 1 the image shrinks, in a black border; above 1 its edges leave.
    """
    chosen = [_finite(factor) for factor in factors]
    if any(factor <= 0 for factor in chosen):
        raise QueryError(f"factors are {chosen}; expected numbers above 0")
    return tuple(
        Transform(
            parameter=factor,
            label=f"× {factor:g}",
            apply=partial(_scale, factor),
            points=partial(_scale_points, factor),
        )
        for factor in chosen
    )


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise QueryError(f"{value} is given; expected finite numbers")
    return float(value)


def _rotate(angle: float, image: Image.Image) -> Image.Image:
    return image.rotate(angle, Image.Resampling.BICUBIC)


def _rotate_points(angle: float, points: Points, size: Size) -> Points:
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    middle = np.array(size) / 2
    turn = np.array([[cosine, -sine], [sine, cosine]])  # y points down, so it looks mirrored
    turned: Points = (points - middle) @ turn + middle
    return turned


def _scale(factor: float, image: Image.Image) -> Image.Image:
    wide, high = image.size
    if factor >= 1:
        x, y = wide * (1 - 1 / factor) / 2, high * (1 - 1 / factor) / 2
        return image.resize(image.size, Image.Resampling.BICUBIC, box=(x, y, wide - x, high - y))
    small, left, top = _shrunk(factor, image.size)
    canvas = Image.new(image.mode, image.size)
    canvas.paste(image.resize(small, Image.Resampling.BICUBIC), (left, top))
    return canvas


def _scale_points(factor: float, points: Points, size: Size) -> Points:
    if factor >= 1:
        middle = np.array(size) / 2
        grown: Points = (points - middle) * factor + middle
        return grown
    small, left, top = _shrunk(factor, size)
    shrunk: Points = points * (np.array(small) / size) + [left, top]
    return shrunk


def _shrunk(factor: float, size: Size) -> tuple[Size, int, int]:
    """Return the size in whole pixels, and where the small image lies in the large one."""
    wide, high = (max(1, round(side * factor)) for side in size)
    return (wide, high), (size[0] - wide) // 2, (size[1] - high) // 2
