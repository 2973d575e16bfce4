"""The figure of a search: the highlighted query, and where its best hits are.

After the figures of Ulrich and Fong, "Interactive Visual Feature Search" (2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from vfs_ops.datasets.previews import PREVIEW_SIDE
from vfs_ops.images.geometry import Frame, PixelMask

_ACCENT: Final = "#ffb000"
_INK: Final = "#1f2328"
_QUIET: Final = "#656d76"
_MISSING: Final = (226, 229, 233)
_DIMMED: Final = 0.5  # brightness outside of a region
_FADED: Final = 0.25  # contrast to white of what the model does not see
_CELL_INCHES: Final = 1.75
_TEXT_INCHES: Final = 0.46  # below each picture: rank and score, and the caption
_GAP_INCHES: Final = 0.14
_MARGIN_INCHES: Final = 0.15
_CAPTION_LENGTH: Final = 24
_DPI: Final = 150  # a preview is then about as large as its place


@dataclass(frozen=True, eq=False)
class Panel:
    """One hit, as it is drawn."""

    image: Image.Image | None
    """Preview of the whole image, RGB; None draws a gray box."""
    frame: Frame
    """How the original image maps into the model's input."""
    core: NDArray[np.bool_]
    """Which of the region's cells to outline, shape (y, x)."""
    cell: tuple[int, int]
    """Row and column of the grid at which the region begins."""
    grid: tuple[int, int]
    title: str
    caption: str


def hits_figure(
    query: Image.Image | None,
    mask: PixelMask,
    frame: Frame,
    panels: Sequence[Panel],
    columns: int = 5,
) -> Figure:
    """Draw a query and its hits.

    Parameters
    ----------
    query
        The query's image, RGB; None draws a gray box.
    mask
        What is highlighted, uint8 of the query image's size, 255 inside.
    frame
        How the query's original image maps into the model's input. What the model does not see of
        it is faded, beyond a thin border.
    panels
        The hits, best first.
    columns
        Hits in one row.

    Returns
    -------
    matplotlib.figure.Figure
        Made without pyplot, so nothing needs to be closed.
    """
    columns = max(1, min(columns, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    pitch, line = _CELL_INCHES + _GAP_INCHES, _CELL_INCHES + _TEXT_INCHES
    large = _CELL_INCHES if rows == 1 else 1.6 * _CELL_INCHES
    first = _MARGIN_INCHES + large + 3 * _GAP_INCHES
    width = first + columns * pitch - _GAP_INCHES + _MARGIN_INCHES
    height = rows * line + _MARGIN_INCHES
    figure = Figure(figsize=(width, height), facecolor="white", dpi=_DPI)

    def place(left: float, top: float, side: float, anchor: str) -> Axes:
        box = (left / width, 1 - (top + side) / height, side / width, side / height)
        return figure.add_axes(box, anchor=anchor)

    axes = place(_MARGIN_INCHES, _MARGIN_INCHES, large, "N")
    background = _background(query, (mask.shape[1], mask.shape[0]))
    seen = _seen(frame, background.size)
    lit = np.where(seen, mask, 0)
    _show(axes, background, lit / 255, missing=query is None, seen=seen)
    _border_seen(axes, frame, background.size)
    _outline_mask(axes, mask, linestyles="dotted", linewidths=1.2)
    if mask.min() < 128:  # else the border says it
        _outline_mask(axes, lit, linewidths=1.8)
    _write(axes, "query", "")
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        axes = place(first + column * pitch, _MARGIN_INCHES + row * line, _CELL_INCHES, "S")
        background = _background(panel.image, _preview_size(panel.frame))
        lines, inside = _located(panel, background.size)
        _show(axes, background, inside, missing=panel.image is None)
        axes.add_collection(LineCollection(lines, colors=_ACCENT, linewidths=1.8, capstyle="round"))
        _write(axes, panel.title, panel.caption)
    x = (first - 1.5 * _GAP_INCHES) / width
    bottom = _TEXT_INCHES / height
    top = 1 - _MARGIN_INCHES / height
    figure.add_artist(Line2D([x, x], [bottom, top], color=_QUIET, linewidth=0.8, alpha=0.5))
    return figure


def _background(image: Image.Image | None, size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, _MISSING) if image is None else image


def _preview_size(frame: Frame) -> tuple[int, int]:
    scale = PREVIEW_SIDE / max(frame.width, frame.height)
    return max(1, round(frame.width * scale)), max(1, round(frame.height * scale))


def _show(
    axes: Axes,
    image: Image.Image,
    inside: NDArray[np.float64],
    missing: bool,
    seen: NDArray[np.bool_] | None = None,
) -> None:
    """Show an image, darker where `inside` (shape (height, width), 0 to 1) is low.

    Where it is not `seen` (same shape), it is gray and faded instead.
    """
    colors = np.asarray(image) / 255
    shown = colors * (_DIMMED + (1 - _DIMMED) * inside[..., None])
    if seen is not None:
        faded = 1 - _FADED * (1 - colors.mean(axis=-1, keepdims=True))
        shown = np.where(seen[..., None], shown, faded)
    axes.imshow(shown, interpolation="lanczos")
    axes.set_axis_off()
    if missing:
        axes.text(0.5, 0.03, "no preview", fontsize=7, transform=axes.transAxes, ha="center", c="w")


def _write(axes: Axes, title: str, caption: str) -> None:
    """Write two lines below a picture; untrusted text is never parsed as a formula."""
    styles: list[tuple[str, float, dict[str, Any]]] = [
        (title, -4, {"color": _INK, "fontsize": 9, "fontweight": "bold"}),
        (_short(caption), -17, {"color": _QUIET, "fontsize": 8}),
    ]
    for text, offset, style in styles:
        axes.annotate(
            text,
            (0.5, 0),
            (0, offset),
            xycoords="axes fraction",
            textcoords="offset points",
            horizontalalignment="center",
            verticalalignment="top",
            parse_math=False,
            annotation_clip=False,
            **style,
        )


def _short(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(line) <= _CAPTION_LENGTH:
        return line
    return line[: _CAPTION_LENGTH // 2] + "…" + line[-(_CAPTION_LENGTH // 2 - 1) :]


def _located(
    panel: Panel, size: tuple[int, int]
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the outline of a hit's region and how much of each pixel it covers."""
    across, down = size[0] / panel.frame.width, size[1] / panel.frame.height
    x_edges = panel.frame.column_edges(panel.grid[1]) * across
    y_edges = panel.frame.row_edges(panel.grid[0]) * down
    top, left = panel.cell
    high, wide = panel.core.shape
    chosen = np.zeros(panel.grid, np.bool_)
    chosen[top : top + high, left : left + wide] = panel.core
    rows = np.clip(np.searchsorted(y_edges, np.arange(size[1]) + 0.5) - 1, -1, panel.grid[0])
    columns = np.clip(np.searchsorted(x_edges, np.arange(size[0]) + 0.5) - 1, -1, panel.grid[1])
    padded = np.pad(chosen.astype(np.float64), 1)
    inside = padded[np.ix_(rows + 1, columns + 1)]
    return _cell_outline(chosen, x_edges - 0.5, y_edges - 0.5), inside


def _seen(frame: Frame, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels of an image shown in `size` the model sees, by their centres."""
    left, top, right, bottom = _seen_box(frame, size)
    x, y = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    seen: NDArray[np.bool_] = np.outer((top < y) & (y < bottom), (left < x) & (x < right))
    return seen


def _seen_box(frame: Frame, size: tuple[int, int]) -> tuple[float, float, float, float]:
    across, down = size[0] / frame.width, size[1] / frame.height
    left, top, right, bottom = frame.visible_box
    return left * across, top * down, right * across, bottom * down


def _border_seen(axes: Axes, frame: Frame, size: tuple[int, int]) -> None:
    """Draw a thin border around what the model sees; none if that is the whole image."""
    left, top, right, bottom = _seen_box(frame, size)
    if (right - left, bottom - top) != size:
        corner = (left - 0.5, top - 0.5)
        axes.add_patch(
            Rectangle(corner, right - left, bottom - top, fill=False, edgecolor=_INK, linewidth=0.7)
        )


def _outline_mask(axes: Axes, mask: PixelMask, **style: Any) -> None:
    """Draw the border of a mask; a mask of the whole image has none."""
    if mask.min() < 128 <= mask.max():
        padded = np.pad(mask, 1)
        x, y = np.arange(-1, mask.shape[1] + 1), np.arange(-1, mask.shape[0] + 1)
        axes.contour(x, y, padded, levels=[127.5], colors=[_ACCENT], **style)
        axes.set_xlim(-0.5, mask.shape[1] - 0.5)
        axes.set_ylim(mask.shape[0] - 0.5, -0.5)


def _cell_outline(
    chosen: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Return the sides between chosen cells and others, as lines of two points."""
    if chosen.all():
        return []
    padded = np.pad(chosen, 1)
    upright = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])
    level = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])
    sides = [[(x[column], y[row]), (x[column], y[row + 1])] for row, column in upright]
    sides += [[(x[column], y[row]), (x[column + 1], y[row])] for row, column in level]
    return [np.array(side) for side in sides]
