"""Pixels and cells: how an image maps into a model's input, and a highlighted mask onto the grid.

Pixels are those of the decoded, upright original image: x to the right and y down from the outer
corner of the top left pixel, boxes as ``(left, top, right, bottom)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vfs_ops.errors import RegionError
from vfs_ops.identity.preprocessing import Preprocessing
from vfs_ops.images.decoding import crop_box, resized_size

Downsample = Literal["bilinear", "coverage"]
Box = tuple[float, float, float, float]
Weights = NDArray[np.float32]
PixelMask = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """How one image maps into the model's input. All sizes are in pixels."""

    width: int
    """Of the original image."""
    height: int
    resized_width: int
    """After the resize step, before the crop."""
    resized_height: int
    left: int
    """Where the crop begins in the resized image; negative where that is padded with zeros."""
    top: int
    input_width: int
    """Of the crop, which is the model's input."""
    input_height: int

    @classmethod
    def of(cls, width: int, height: int, preprocessing: Preprocessing) -> Self:
        """Return the frame of an image of `width` × `height` pixels under `preprocessing`."""
        resize, size = preprocessing.resize, (width, height)
        resized = size if resize is None else resized_size(size, resize)
        left, top, right, bottom = crop_box(resized, preprocessing.input_size)
        return cls(width, height, *resized, left, top, right - left, bottom - top)

    @property
    def visible(self) -> tuple[int, int, int, int]:
        """The part of the resized image that the model sees, as a box in resized pixels."""
        return (
            max(self.left, 0),
            max(self.top, 0),
            min(self.left + self.input_width, self.resized_width),
            min(self.top + self.input_height, self.resized_height),
        )

    @property
    def visible_box(self) -> Box:
        """The part of the original image that the model sees."""
        return self.window_box(0, 0, 1, 1, (1, 1))

    def column_edges(self, columns: int) -> NDArray[np.float64]:
        """Return the ``columns + 1`` x coordinates that bound the cells' columns, unclipped."""
        steps = np.arange(columns + 1) * self.input_width / columns
        return (self.left + steps) * self.width / self.resized_width

    def row_edges(self, rows: int) -> NDArray[np.float64]:
        """Return the ``rows + 1`` y coordinates that bound the cells' rows, unclipped."""
        steps = np.arange(rows + 1) * self.input_height / rows
        return (self.top + steps) * self.height / self.resized_height

    def window_box(self, top: int, left: int, high: int, wide: int, grid: tuple[int, int]) -> Box:
        """Return the box that a window of cells covers, clipped to the image.

        Parameters
        ----------
        top, left
            The window's first row and column of cells.
        high, wide
            Its size in cells.
        grid
            Rows and columns of the feature map.

        Returns
        -------
        tuple of float
            ``(left, top, right, bottom)``; empty for a window that lies in the padding.
        """
        x = np.clip(self.column_edges(grid[1])[[left, left + wide]], 0, self.width)
        y = np.clip(self.row_edges(grid[0])[[top, top + high]], 0, self.height)
        return float(x[0]), float(y[0]), float(x[1]), float(y[1])


@dataclass(frozen=True, eq=False)
class Region:
    """Weights on the grid of cells, cropped to the bounding box of those above zero."""

    weights: Weights
    """Float32 ``(high, wide)`` in [0, 1], contiguous and read-only; the border rows and columns
    all hold a weight above zero."""
    top: int
    """Row of the grid at which the weights lie in the image they were drawn on."""
    left: int
    grid: tuple[int, int]
    """Rows and columns of the whole feature map."""

    @classmethod
    def of(cls, weights: Weights) -> Self:
        """Crop weights on the whole grid, float32 ``(rows, columns)``, to their bounding box.

        Raises
        ------
        RegionError
            If no weight is above zero.
        """
        rows, columns = np.nonzero(weights > 0)
        if not rows.size:
            raise RegionError("the region covers no cell; highlight a larger part of the image")
        top, left = int(rows.min()), int(columns.min())
        cropped = np.array(
            weights[top : rows.max() + 1, left : columns.max() + 1], np.float32, order="C"
        )
        cropped.setflags(write=False)
        return cls(cropped, top, left, (weights.shape[0], weights.shape[1]))

    @property
    def high(self) -> int:
        """Rows of cells."""
        return int(self.weights.shape[0])

    @property
    def wide(self) -> int:
        """Columns of cells."""
        return int(self.weights.shape[1])

    @property
    def core(self) -> NDArray[np.bool_]:
        """The cells that figures outline, bool ``(high, wide)``.

        They weigh at least half as much as the heaviest. The others are the fringe that
        antialiasing leaves around what was highlighted.
        """
        chosen: NDArray[np.bool_] = self.weights >= self.weights.max() / 2
        return chosen

    @property
    def core_window(self) -> tuple[int, int, int, int]:
        """First row, first column, rows and columns of the core's bounding box in the region."""
        rows, columns = np.nonzero(self.core)
        top, left = int(rows.min()), int(columns.min())
        return top, left, int(rows.max()) + 1 - top, int(columns.max()) + 1 - left


def mask_to_region(
    mask: PixelMask,
    preprocessing: Preprocessing,
    grid: tuple[int, int],
    downsample: Downsample = "bilinear",
) -> Region:
    """Turn a mask in pixels of the original image into weights on the grid of cells.

    Weights are multiples of 1/255, as those of the reference are.

    Parameters
    ----------
    mask
        Uint8 ``(height, width)``, 255 inside; see `vfs_ops.images.masks.pixel_mask`.
    preprocessing
        Of the extractor that the grid belongs to.
    grid
        Rows and columns of the feature map.
    downsample
        ``bilinear``: the mask is resized and cropped like the image, and then resized to the grid,
        by Pillow's antialiased bilinear filter on 8-bit values, as the notebooks of
        ``visualfeaturesearch`` 1.0.0 do with the mask they draw on the preprocessed image. Cells
        next to the mask get a small weight. ``coverage``: a cell's weight is the part of its area
        that the mask covers; a square of exactly 3 × 3 cells stays that.

    Raises
    ------
    RegionError
        If the mask is empty, lies outside of the crop, or covers too little of any cell.
    """
    if downsample not in get_args(Downsample):
        raise RegionError(
            f"downsample is {downsample!r}; expected one of {', '.join(get_args(Downsample))}"
        )
    if not mask.any():
        raise RegionError("the mask is empty; highlight a part of the image")
    frame = Frame.of(mask.shape[1], mask.shape[0], preprocessing)
    coverage = _coverage(mask, frame, grid)
    if not coverage.any():
        raise RegionError(
            "the mask lies outside of what the model sees: the centre crop leaves pixels "
            f"{shown_box(frame.visible_box)} of the image; highlight a part of that"
        )
    if downsample == "coverage":
        weights = np.rint(coverage * 255) / 255
    else:
        small = _into_frame(Image.fromarray(mask), frame).resize(
            (grid[1], grid[0]), Image.Resampling.BILINEAR
        )
        weights = np.asarray(small) / 255
    if not weights.any():
        raise RegionError(
            f"the mask covers too little: at most {coverage.max():.2g} of a cell; "
            "highlight a larger part of the image, or choose a layer with a finer grid"
        )
    return Region.of(weights.astype(np.float32))


def visible_share(mask: PixelMask, frame: Frame) -> float:
    """Return which part of what a mask highlights the model sees, in [0, 1].

    Parameters
    ----------
    mask
        Uint8 ``(height, width)`` of the original image, not all zero.
    frame
        How that image maps into the model's input.
    """
    left, top, right, bottom = frame.visible_box
    columns = _overlaps(np.array([left, right]), frame.width)[0] * (right - left)
    rows = _overlaps(np.array([top, bottom]), frame.height)[0] * (bottom - top)
    return min(float(rows @ (mask @ columns)) / float(mask.sum(dtype=np.int64)), 1.0)


def _into_frame(mask: Image.Image, frame: Frame) -> Image.Image:
    left, top, right, bottom = frame.visible
    if mask.size == (frame.resized_width, frame.resized_height):
        visible = mask.crop(frame.visible)
    else:
        # Resampling the visible part alone gives the same values, without the memory of a
        # panorama's resized mask: Pillow's filters look beyond the box.
        x, y = frame.width / frame.resized_width, frame.height / frame.resized_height
        box = (left * x, top * y, min(right * x, frame.width), min(bottom * y, frame.height))
        visible = mask.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box)
    framed = Image.new("L", (frame.input_width, frame.input_height))
    framed.paste(visible, (left - frame.left, top - frame.top))
    return framed


def _coverage(mask: PixelMask, frame: Frame, grid: tuple[int, int]) -> NDArray[np.float64]:
    across = _overlaps(frame.column_edges(grid[1]), frame.width)
    down = _overlaps(frame.row_edges(grid[0]), frame.height)
    weights = np.zeros(grid)
    for row, part in enumerate(down):
        (rows,) = np.nonzero(part)
        if rows.size:
            inside = slice(rows[0], rows[-1] + 1)  # one row of cells at a time bounds the memory
            weights[row] = across @ (part[inside] @ mask[inside]) / 255
    return weights


def _overlaps(edges: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    """Return which part of each cell each pixel covers along one axis, ``(cells, pixels)``."""
    starts = np.arange(pixels)
    low = np.maximum(edges[:-1, None], starts)
    high = np.minimum(edges[1:, None], starts + 1)
    overlaps: NDArray[np.float64] = np.maximum(high - low, 0) / np.diff(edges)[:, None]
    return overlaps


def shown_box(box: Box) -> str:
    """Return a box for messages, in whole pixels."""
    return "({:.0f}, {:.0f}) to ({:.0f}, {:.0f})".format(*box)
