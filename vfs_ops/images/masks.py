"""Masks, boxes and polygons as somebody gives them → one mask in pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from vfs_ops.errors import RegionError
from vfs_ops.images.geometry import PixelMask

Polygons = Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]]
"""Corners of one polygon, or of several."""


def pixel_mask(
    width: int,
    height: int,
    *,
    mask: NDArray[Any] | Image.Image | None = None,
    boxes: Sequence[Sequence[float]] | None = None,
    polygon: Polygons | None = None,
) -> PixelMask:
    """Draw what is given into one mask; together they are a union, and nothing is the whole image.

    Parameters
    ----------
    width, height
        Of the decoded, upright original image, in pixels.
    mask
        ``(height, width)``: bool, uint8 from 0 to 255, or float from 0 to 1; or a Pillow image of
        mode ``1`` or ``L``.
    boxes
        ``(left, top, right, bottom)`` each, in pixels; a pixel is inside if its centre is.
    polygon
        Corners ``(x, y)`` of one polygon, or a list of polygons; at least three corners each, in
        pixels; closed by itself. Where the outline crosses itself, all that it winds around is
        inside, as with a lasso.

    Returns
    -------
    ndarray
        Uint8 ``(height, width)``, 255 inside.

    Raises
    ------
    RegionError
        If something has the wrong size or type, is degenerate, or lies outside of the image.

    Examples
    --------
    >>> pixel_mask(4, 2, boxes=[(1, 0, 3, 1)]).tolist()
    [[0, 255, 255, 0], [0, 0, 0, 0]]
    """
    if mask is None and boxes is None and polygon is None:
        return np.full((height, width), 255, np.uint8)
    drawn = np.zeros((height, width), np.uint8)
    if mask is not None:
        np.maximum(drawn, _check_mask(mask, width, height), out=drawn)
    if boxes is not None:
        for left, top, right, bottom in _numbers("boxes", boxes, 4):
            shown = f"box ({left:.10g}, {top:.10g}, {right:.10g}, {bottom:.10g})"
            if not (left < right and top < bottom):
                raise RegionError(
                    f"{shown} is empty; expected left < right and top < bottom, in pixels"
                )
            corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
            _fill(drawn, corners, shown)
    if polygon is not None:
        for outline in _one_by_one(polygon):
            corners = _numbers("polygon", outline, 2)
            if len(corners) < 3:
                raise RegionError(f"the polygon has {len(corners)} corner(s); expected at least 3")
            _fill(drawn, corners, "the polygon")
    return drawn


def _check_mask(mask: NDArray[Any] | Image.Image, width: int, height: int) -> PixelMask:
    if isinstance(mask, Image.Image):
        if mask.mode not in ("1", "L"):
            raise RegionError(
                f"the mask is an image of mode {mask.mode}; expected 1 or L; convert it, "
                "or take its alpha channel with getchannel('A')"
            )
        mask = np.asarray(mask)
    values: NDArray[Any] = np.asarray(mask)
    if values.shape != (height, width):
        raise RegionError(
            f"the mask has shape {values.shape}; expected (height, width) = {height, width}, the "
            "size of the decoded image"
        )
    if values.dtype == np.bool_:
        return np.where(values, np.uint8(255), np.uint8(0))
    if values.dtype == np.uint8:
        if values.max() == 1:
            raise RegionError(
                "the mask is uint8 and its largest value is 1; expected 0 to 255; "
                "for a mask of 0 and 1 give mask.astype(bool)"
            )
        return values
    if values.dtype.kind == "f":
        if not ((values >= 0) & (values <= 1)).all():
            raise RegionError("the mask has values outside of 0 to 1; scale it, or give uint8")
        scaled: PixelMask = np.rint(values * 255).astype(np.uint8)
        return scaled
    raise RegionError(f"the mask has dtype {values.dtype}; expected bool, uint8 or float")


def _one_by_one(polygon: Any) -> Sequence[Any]:
    """Return a list of polygons, whether one or several are given."""
    if not isinstance(polygon, Sequence | np.ndarray) or not len(polygon):
        raise RegionError(
            f"polygon is {repr(polygon)[:60]}; expected a list of corners (x, y), or of such lists"
        )
    first = polygon[0]
    corner = isinstance(first, Sequence | np.ndarray) and len(first) and np.ndim(first[0]) == 0
    return [polygon] if corner else list(polygon)


def _numbers(what: str, values: ArrayLike, columns: int) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise RegionError(f"{what}: {error}; expected {columns} numbers each") from error
    if numbers.ndim != 2 or numbers.shape[1] != columns or not len(numbers):
        raise RegionError(
            f"{what} have shape {numbers.shape}; expected a list of {columns} numbers each"
        )
    if not np.isfinite(numbers).all():
        raise RegionError(f"{what} hold a number that is not finite; correct it")
    return numbers


def _fill(drawn: PixelMask, corners: NDArray[np.float64], what: str) -> None:
    """Set the pixels whose centres an outline winds around."""
    height, width = drawn.shape
    first = int(np.clip(np.ceil(corners[:, 1].min() - 0.5), 0, height))
    last = int(np.clip(np.ceil(corners[:, 1].max() - 0.5), 0, height))
    # How the winding number changes from one pixel to the next, per row of pixel centres.
    changes = np.zeros((max(last - first, 0), width + 1), np.int32)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = np.clip(np.ceil(np.array([min(y0, y1), max(y0, y1)]) - 0.5), first, last)
        rows = np.arange(int(low), int(high))
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)
            changes[rows - first, columns] += 1 if y1 > y0 else -1
    inside = changes.cumsum(axis=1)[:, :width] != 0
    if not inside.any():
        raise RegionError(
            f"{what} holds no pixel of the image, which is {width} × {height} pixels; "
            "expected pixels of the decoded, upright original"
        )
    drawn[first:last][inside] = 255
