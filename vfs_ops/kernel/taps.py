"""Which cells of a grid are multiplied with which columns, and what their products are added to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vfs_ops.kernel.batches import Group

TAPS: Final = 5
"""Columns that a cell is multiplied with at once, at most: as many as registers have room for."""
LANES: Final = range(8, 17, 8)
"""How many numbers registers hold, that is, how many parts a sum is added up in."""


@dataclass(frozen=True, eq=False)
class Taps:
    """What `vfs_ops.kernel.compiled.add_up` goes through: only what some window needs."""

    columns: NDArray[np.float32]
    """Those of all groups, shape (column, channel)."""
    pieces: NDArray[np.int64]
    """Shape (piece, 3): the place of a cell's first value in an image, with how many columns it is
    multiplied, from 1 to `TAPS`, and the number of the first of these in `table`."""
    table: NDArray[np.int64]
    """Shape (tap, 2): the place of a column's first value, and the number of the sum."""
    sums: int
    """How many there are: of all windows of each group's first query, its second, and so on."""

    @classmethod
    def of(cls, groups: Sequence[Group], grid: tuple[int, int]) -> Self:
        """Go through the windows of some groups of queries."""
        columns = np.concatenate([group.columns.flatten(0, 1).numpy() for group in groups])
        cells, rows, numbers, sums, row = [], [], [], 0, 0
        for group in groups:
            high, wide = group.offsets
            queries, windows = len(group.queries), high * wide
            begin = (np.arange(high)[:, None] * grid[1] + np.arange(wide)).reshape(1, -1, 1)
            kept = np.array([y * grid[1] + x for y, x in group.cells])
            of_query = np.arange(queries)[:, None, None]
            taps = np.broadcast_shapes(of_query.shape, begin.shape, kept.shape)
            cells.append(np.broadcast_to(begin + kept, taps).ravel())
            rows.append(
                np.broadcast_to(row + np.arange(len(kept)) * queries + of_query, taps).ravel()
            )
            number = sums + of_query * windows + np.arange(windows)[:, None]
            numbers.append(np.broadcast_to(number, taps).ravel())
            row += queries * len(kept)
            sums += queries * windows
        cell = np.concatenate(cells)
        order = np.argsort(
            cell, kind="stable"
        )  # by cell, so that images are read once and in order
        channels = columns.shape[1]
        pairs = np.concatenate(rows) * channels, np.concatenate(numbers)
        return cls(columns, _pieces(cell[order], channels), np.stack(pairs, axis=1)[order], sums)


def _pieces(cells: NDArray[np.int64], channels: int) -> NDArray[np.int64]:
    """Cut the taps of each cell, of which all are given in order, into few of about one size."""
    cell, first, taps = np.unique(cells, return_index=True, return_counts=True)
    cuts = -(-taps // TAPS)
    of_cell = np.repeat(np.arange(len(cell)), cuts)
    number = np.arange(len(of_cell)) - np.repeat(np.cumsum(cuts) - cuts, cuts)
    begin, end = (
        first[of_cell] + taps[of_cell] * one // cuts[of_cell] for one in (number, number + 1)
    )
    return np.stack([cell[of_cell] * channels, end - begin, begin], axis=1)
