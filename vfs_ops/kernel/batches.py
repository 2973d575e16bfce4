"""Queries made ready to be scored together: the columns of one matrix product.

Every kept cell of every query is a column. Queries whose boxes and kept cells are equal form a
group, whose products are added up together; groups whose columns fit one product form a bundle.

Let v = m·q / |m·q|, so that |v| = 1, and u = m·v. The columns are the u of the cells: in float32,
and for the compact form (`vfs_ops.kernel.compact`) as step·(high + low/256) with whole numbers high
and low in [-127, 127] and one step per column.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from vfs_ops.errors import QueryError
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.taps import TAPS, Taps

LOW_STEPS: Final = 256
"""A step of the high part in steps of the low part."""
COLUMNS_AT_ONCE: Final = 288
"""In one product: enough for its full speed, few enough that its results stay in the cache; 32
queries of 3×3 cells, 64 parts, which matrix units take in whole tiles of 16."""
FEW_WINDOWS: Final = 4
"""With more, a product for each cell of each window is too many small ones."""
_NARROW_COLUMNS: Final = 16
"""A product with fewer columns takes no less time than with these."""


@dataclass(frozen=True, eq=False)
class Group:
    """Queries of one batch with equal boxes and equal kept cells, and their columns."""

    queries: NDArray[np.intp]
    """Their numbers in the batch, shape (query,)."""
    box: tuple[int, int]
    """Rows and columns of cells of the bounding box."""
    cells: tuple[tuple[int, int], ...]
    """Positions (y, x) in the box that are kept."""
    offsets: tuple[int, int]
    """Rows and columns of the grid at which the box may begin."""
    masks: tuple[int, ...]
    """For each query, which of the batch's distinct `Batch.masks` it has."""
    columns: torch.Tensor
    """u in float32, shape (cell, query, channel)."""
    parts: torch.Tensor
    """High and low parts in int8, shape (2, cell, query, channel)."""
    steps: torch.Tensor
    """Float32, shape (cell, query)."""
    lost: NDArray[np.float64]
    """How far a score may be off because the parts are not u: with the difference d of each cell,
    √Σ|d|²/m², shape (query,)."""
    direct: bool
    """Whether each window is multiplied with the query by itself, or all cells of the grid with
    all columns: the first takes less where the box is nearly the whole grid."""

    @property
    def size(self) -> int:
        """How many columns its queries have in all."""
        return len(self.cells) * len(self.queries)

    @property
    def taps(self) -> int:
        """How many products of a cell and a column its windows need."""
        return self.size * math.prod(self.offsets)

    @property
    def windows(self) -> Iterator[tuple[int, int]]:
        """Offsets (y, x) of all windows."""
        return itertools.product(range(self.offsets[0]), range(self.offsets[1]))

    def places(self, window: tuple[int, int], across: int) -> list[int]:
        """Return where a window's kept cells are in a grid of `across` columns, row by row."""
        return [(window[0] + y) * across + window[1] + x for y, x in self.cells]

    @cached_property
    def rows_of_box(self) -> torch.Tensor:
        """The columns as a dense box, shape (row of the box, column · channel, query)."""
        channels = self.columns.shape[2]
        dense = torch.zeros((*self.box, channels, len(self.queries)), dtype=torch.float32)
        for number, (y, x) in enumerate(self.cells):
            dense[y, x] = self.columns[number].T
        return dense.flatten(1, 2)


@dataclass(frozen=True, eq=False)
class Bundle:
    """Groups whose columns are multiplied together."""

    groups: tuple[Group, ...]
    columns: torch.Tensor
    """Those of all groups, shape (column, channel)."""
    parts: torch.Tensor
    """High parts of all columns, then the low ones, shape (2 · column, channel)."""

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Self:
        """Put the columns of some groups after each other."""
        columns = [group.columns.flatten(0, 1) for group in groups]
        parts = [group.parts.flatten(1, 2) for group in groups]
        return cls(tuple(groups), torch.cat(columns), torch.cat(parts, dim=1).flatten(0, 1))


@dataclass(frozen=True, eq=False)
class Batch:
    """Queries of one layer, of any shapes, made ready for feature maps of one grid."""

    patterns: tuple[Pattern, ...]
    grid: tuple[int, int]
    channels: int
    bundles: tuple[Bundle, ...]
    """Of the groups that are not direct."""
    direct: tuple[Group, ...]
    masks: tuple[tuple[float, ...], ...]
    """m² of the kept cells of each distinct mask: the norms of its windows are computed once."""

    @classmethod
    def of(cls, patterns: Sequence[Pattern], grid: tuple[int, int]) -> Self:
        """Arrange the columns of some queries.

        Parameters
        ----------
        patterns
            The queries, of any shapes, all of one number of channels.
        grid
            Cells along y and x of the feature maps to search.

        Raises
        ------
        QueryError
            If there is none, channels differ, or a region is larger than the grid.
        """
        if not patterns:
            raise QueryError("there is no query; expected at least one")
        channels = sorted({pattern.channels for pattern in patterns})
        if len(channels) > 1:
            raise QueryError(
                f"the queries have {', '.join(map(str, channels))} channels; expected queries of "
                "one extractor and layer, so search once for each"
            )
        for pattern in patterns:
            _check_size(pattern, grid)
        masks: dict[tuple[object, ...], int] = {}
        members: dict[tuple[object, ...], list[int]] = {}
        numbers = []
        for number, pattern in enumerate(patterns):
            shape = (pattern.size, pattern.cells.tobytes())
            numbers.append(masks.setdefault((shape, pattern.squared.tobytes()), len(masks)))
            members.setdefault(shape, []).append(number)
        groups = [
            _group(np.array(part), patterns, numbers, grid)
            for queries in members.values()
            for part in _split(queries, len(patterns[queries[0]].squared))
        ]
        return cls(
            patterns=tuple(patterns),
            grid=grid,
            channels=channels[0],
            bundles=tuple(_bundles([group for group in groups if not group.direct])),
            direct=tuple(group for group in groups if group.direct),
            masks=tuple(
                tuple(patterns[numbers.index(number)].squared.tolist())
                for number in range(len(masks))
            ),
        )

    def __len__(self) -> int:
        return len(self.patterns)

    @cached_property
    def singles(self) -> tuple[Batch, ...]:
        """Each query as a batch of its own."""
        if len(self) == 1:
            return (self,)
        return tuple(Batch.of([pattern], self.grid) for pattern in self.patterns)

    @cached_property
    def sums_at_once(self) -> int:
        """How many sums of windows an image has in the largest of `taps`."""
        together = [*(bundle.groups for bundle in self.bundles), *((one,) for one in self.direct)]
        return max(sum(one.taps // len(one.cells) for one in groups) for groups in together)

    @cached_property
    def taps(self) -> tuple[tuple[tuple[Group, ...], Taps], ...]:
        """Groups that are computed together, and how; all of them."""
        together = [*(bundle.groups for bundle in self.bundles), *((one,) for one in self.direct)]
        return tuple((groups, Taps.of(groups, self.grid)) for groups in together)

    @property
    def columns(self) -> torch.Tensor:
        """U of the kept cells of a batch of one query, float32, shape (cell, channel)."""
        [group] = self.groups
        return group.columns[:, 0]

    @property
    def groups(self) -> Iterator[Group]:
        """All groups."""
        for bundle in self.bundles:
            yield from bundle.groups
        yield from self.direct


def batch_bytes(patterns: Sequence[Pattern], grid: tuple[int, int]) -> int:
    """Return how much memory queries take at most: as given, and made ready.

    That is the columns in all forms, twice, by themselves and put together, either as rows of boxes
    or with the places that they are multiplied at; together and for each query alone.
    """
    taken, times = 0, 1 if len(patterns) == 1 else 2
    for pattern in patterns:
        values, box = pattern.products.size, math.prod(pattern.size) * pattern.channels
        taps = len(pattern.squared) * math.prod(pattern.offsets(grid))
        pieces = taps // TAPS + math.prod(grid)
        ready = 2 * (4 + 2) * values + 4 * max(values, box) + 2 * 8 * taps + 3 * 8 * pieces
        taken += 8 * values + times * ready
    return taken


def _check_size(pattern: Pattern, grid: tuple[int, int]) -> None:
    if min(pattern.offsets(grid)) < 1:
        raise QueryError(
            f"the region covers {pattern.size[0]} × {pattern.size[1]} cells; the cache's feature "
            f"maps have {grid[0]} × {grid[1]}; make the query with the cache's own extractor"
        )


def _split(queries: list[int], cells: int) -> Iterator[list[int]]:
    """Cut a group's queries so that the columns of each part fit one product."""
    at_once = max(1, COLUMNS_AT_ONCE // cells)
    for start in range(0, len(queries), at_once):
        yield queries[start : start + at_once]


def _bundles(groups: Sequence[Group]) -> Iterator[Bundle]:
    waiting: list[Group] = []
    for group in groups:
        if waiting and sum(one.size for one in [*waiting, group]) > COLUMNS_AT_ONCE:
            yield Bundle.of(waiting)
            waiting = []
        waiting.append(group)
    if waiting:
        yield Bundle.of(waiting)


def _positions(pattern: Pattern) -> tuple[tuple[int, int], ...]:
    return tuple((y, x) for y, x in pattern.cells.tolist())


def _group(
    queries: NDArray[np.intp],
    patterns: Sequence[Pattern],
    masks: Sequence[int],
    grid: tuple[int, int],
) -> Group:
    first = patterns[int(queries[0])]
    products = np.stack([patterns[number].products for number in queries], axis=1)
    parts, steps = _in_parts(products)
    difference = products - steps[:, :, None] * (parts[0] + parts[1] / LOW_STEPS)
    weights = np.stack([patterns[number].squared for number in queries], axis=1)
    lost = np.sqrt(((difference**2).sum(axis=2) / weights).sum(axis=0))
    down, across = first.offsets(grid)
    cells, kept = grid[0] * grid[1], len(first.squared)
    each = max(_NARROW_COLUMNS, 2 * len(queries))
    together = cells * max(_NARROW_COLUMNS, 2 * kept * len(queries))
    direct = down * across <= FEW_WINDOWS and down * across * kept * each < together
    return Group(
        queries=queries,
        box=first.size,
        cells=_positions(first),
        offsets=(down, across),
        masks=tuple(masks[number] for number in queries),
        columns=torch.from_numpy(products.astype(np.float32)),
        parts=torch.from_numpy(parts),
        steps=torch.from_numpy(steps),
        lost=lost,
        direct=direct,
    )


def _in_parts(products: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the high and low parts of columns, and their steps."""
    largest = np.abs(products).max(axis=2)
    steps = (largest / 127).astype(np.float32)
    divisor = np.where(steps > 0, steps.astype(np.float64), np.inf)[:, :, None]
    scaled = products / divisor
    high = np.clip(np.rint(scaled), -127, 127)
    low = np.clip(np.rint((scaled - high) * LOW_STEPS), -127, 127)
    return np.stack([high, low]).astype(np.int8), steps
