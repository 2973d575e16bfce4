"""Which cells of two grids show the same place of an image."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vfs_ops.images.geometry import Frame

Cell = tuple[int, int]
"""Row and column of a grid."""
Grid = tuple[int, int]
"""Rows and columns."""

TIE: Final = 1e-6
"""Of a cell. The middle of a coarse cell often lies on the border between two fine ones: nearer
than this, the cell to the right and below is taken, whatever the rounding."""


def cell_centre(cell: Cell, frame: Frame, grid: Grid) -> tuple[float, float]:
    """Return the middle of a cell in pixels of the original image.

    Parameters
    ----------
    cell
        Row and column.
    frame
        How the image maps into the model's input.
    grid
        Rows and columns of the feature map.

    Returns
    -------
    x, y : float
        Outside of the image for a cell that lies on the model's own padding.
    """
    columns, rows = frame.column_edges(grid[1]), frame.row_edges(grid[0])
    row, column = cell
    return (
        float(columns[column] + columns[column + 1]) / 2,
        float(rows[row] + rows[row + 1]) / 2,
    )


def cell_at(point: tuple[float, float], frame: Frame, grid: Grid) -> Cell | None:
    """Return the cell at a point of the original image; None if the model does not see it.

    Parameters
    ----------
    point
        x and y in pixels of the original image.
    frame, grid
        See `cell_centre`.
    """
    number = int(cells_at(np.array([point], np.float64), frame, grid)[0])
    return None if number < 0 else divmod(number, grid[1])


def cells_at(points: NDArray[np.float64], frame: Frame, grid: Grid) -> NDArray[np.int32]:
    """Return the numbers of the cells at many points.

    Parameters
    ----------
    points
        Shape (n, 2), x and y in pixels of the original image.
    frame, grid
        See `cell_centre`.

    Returns
    -------
    numpy.ndarray
        int32 of shape (n,): row · columns + column, -1 where the model does not see the point.
    """
    starts = np.array([frame.column_edges(grid[1])[0], frame.row_edges(grid[0])[0]])
    stops = np.array([frame.column_edges(grid[1])[-1], frame.row_edges(grid[0])[-1]])
    cells = np.array([grid[1], grid[0]])
    steps = np.floor((points - starts) / (stops - starts) * cells + TIE)
    seen = ((steps >= 0) & (steps < cells)).all(axis=1)
    return np.where(seen, steps[:, 1] * grid[1] + steps[:, 0], -1).astype(np.int32)


def corresponding_cell(
    cell: Cell, frame: Frame, grid: Grid, other_frame: Frame, other_grid: Grid
) -> Cell | None:
    """Return the cell of another feature map of the same image at the middle of a cell.

    Parameters
    ----------
    cell
        Row and column of the first feature map.
    frame, grid
        Of the first feature map; see `cell_centre`.
    other_frame, other_grid
        Of the other: another layer, or another model with another resize or crop.

    Returns
    -------
    tuple of int or None
        Row and column; None if the other model does not see that place.

    Examples
    --------
    >>> frame = Frame(224, 224, 224, 224, 0, 0, 224, 224)
    >>> corresponding_cell((0, 6), frame, (7, 7), frame, (14, 14))
    (1, 13)
    """
    return cell_at(cell_centre(cell, frame, grid), other_frame, other_grid)
