"""Images that may be among the best: their windows, scored in float32 and then exactly.

What is wanted of them is taken out of the blocks as stored, a few images to a thread. Float32 says
which windows cannot reach the score that is needed; the others get their exact score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Part, Scratch
from vfs_ops.kernel.exact import ELEMENTS_AT_ONCE, exact_scores, not_finite, window_scores
from vfs_ops.kernel.float_pass import float_errors, float_scores, window_errors
from vfs_ops.kernel.spreading import spread
from vfs_ops.kernel.topk import Best, joined

_LEAST_IMAGES: Final = 16
"""With fewer, a thread takes longer to begin than to score them."""
_VALUES_TAKEN: Final = 1 << 20
"""Out of the blocks by a thread in one go: so many that few steps of Python go with each."""
_VALUES_AT_ONCE: Final = 1 << 18
"""Multiplied in one go: 1 MB of float32, which stay in the cache."""


@dataclass(frozen=True, eq=False)
class Images:
    """The rows of some parts, numbered through."""

    parts: Sequence[Part]
    rounding: float
    """See `vfs_ops.kernel.float_pass.rounding_of_factors`."""
    starts: NDArray[np.intp]
    """Number of the first row of each part, and of all rows."""
    image: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Sequence[Part], rounding: float) -> Self:
        """Take the rows of some parts, one after the other."""
        starts = np.cumsum([0, *(len(part.block) for part in parts)])
        none = np.empty(0, np.int64)
        return cls(
            parts,
            rounding,
            starts,
            np.concatenate([none, *(part.images for part in parts)]),
            np.concatenate([none, *(part.groups for part in parts)]),
        )

    def by_part(self, numbers: NDArray[np.intp]) -> Iterator[tuple[Part, slice, NDArray[np.intp]]]:
        """Cut ascending numbers by part: yield which of them are a part's, and its own rows."""
        cuts = np.searchsorted(numbers, self.starts)
        for part, first, start, stop in zip(
            self.parts, self.starts.tolist(), cuts[:-1].tolist(), cuts[1:].tolist(), strict=False
        ):
            if start < stop:
                yield part, slice(start, stop), numbers[start:stop] - first

    def exact(
        self,
        query: Batch,
        numbers: NDArray[np.intp],
        needed: NDArray[np.float64],
        scratch: Scratch,
    ) -> Best:
        """Score exactly what may be the best window of some images, whose numbers ascend.

        They come in no order, with `numbers` as groups. Images whose best window cannot reach
        `needed` may be left out.
        """
        [error] = float_errors(query, self.rounding)

        def some(part: slice, scratch: Scratch) -> Best:
            return self._exact(query, numbers[part], needed[part], float(error), scratch)

        values = query.grid[0] * query.grid[1] * query.channels
        return _spread_images(len(numbers), values, some, scratch)

    def windows(
        self,
        query: Batch,
        numbers: NDArray[np.intp],
        window: NDArray[np.int32],
        needed: NDArray[np.float64],
        scratch: Scratch,
    ) -> Best:
        """Score exactly one window of each of some images, if it may reach `needed`.

        `numbers` ascend, and are the groups of what is returned.
        """
        least = needed - window_errors(query)

        def some(part: slice, scratch: Scratch) -> Best:
            return self._windows(query, numbers[part], window[part], least[part], scratch)

        return _spread_images(len(numbers), query.patterns[0].products.size, some, scratch)

    def _windows(
        self,
        query: Batch,
        numbers: NDArray[np.intp],
        window: NDArray[np.int32],
        least: NDArray[np.float64],
        scratch: Scratch,
    ) -> Best:
        pattern, across = query.patterns[0], query.grid[1]
        y, x = np.divmod(window.astype(np.int64), pattern.offsets(query.grid)[1])
        steps = pattern.cells[:, 0] * across + pattern.cells[:, 1]
        cells, norms = self._cells(numbers, (y * across + x)[:, None] + steps, scratch)
        if least.max() > -np.inf:
            fast = _float_scores_of_windows(query, cells, norms, scratch)
            kept = np.flatnonzero(fast >= least)
            cells = cells[torch.from_numpy(kept).to(cells.device)]
            numbers, y, x = numbers[kept], y[kept], x[kept]
        values = scratch.take("window values", tuple(cells.shape), torch.float32)
        score = window_scores(pattern, values.copy_(cells).numpy())
        return Best(score, self.image[numbers], y, x, numbers)

    def _exact(
        self,
        query: Batch,
        numbers: NDArray[np.intp],
        needed: NDArray[np.float64],
        error: float,
        scratch: Scratch,
    ) -> Best:
        every = np.arange(query.grid[0] * query.grid[1])[None]
        cells, cell_norms = self._cells(numbers, every, scratch)
        features = cells.view(len(numbers), *query.grid, query.channels)
        norms = cell_norms.view(len(numbers), *query.grid)
        scores = np.empty((len(numbers), *query.patterns[0].offsets(query.grid)))
        for _, part_of, fast in float_scores(
            query, features, norms, np.arange(len(numbers)), scratch
        ):
            scores[part_of] = fast[0].permute(2, 0, 1).cpu().numpy()
        highest = scores.max(axis=(1, 2))
        unknown = np.isnan(highest)
        if unknown.any():
            raise not_finite(f"image {self.image[numbers[unknown][0]]}")
        least = np.where(highest >= needed - error, highest - 2 * error, np.inf)
        which, y, x = np.nonzero(scores >= least[:, None, None])
        rows, row = np.unique(which, return_inverse=True)
        stored = features[torch.from_numpy(rows).to(features.device)].to("cpu", torch.float32)
        score = exact_scores(query.patterns[0], stored.numpy(), row, y, x)
        return Best(score, self.image[numbers[which]], y, x, numbers[which])

    def _cells(
        self, numbers: NDArray[np.intp], places: NDArray[np.int64], scratch: Scratch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take some cells of some images: as stored, (image, cell, channel), and their norms.

        `places` are their numbers in the grid, row by row, shape (image, cell) or (1, cell).
        """
        first = self.parts[0].block.features
        (_, down, across, channels), device = first.shape, first.device
        places = np.broadcast_to(places, (len(numbers), places.shape[1]))
        stored = scratch.take("chosen", (*places.shape, channels), first.dtype, device)
        norms = scratch.take("chosen norms", places.shape, torch.float32, device)
        for part, at, rows in self.by_part(numbers):
            cells = torch.from_numpy((rows[:, None] * (down * across) + places[at]).ravel())
            cells, block = cells.to(device), part.block
            torch.index_select(block.features.flatten(0, 2), 0, cells, out=stored[at].flatten(0, 1))
            torch.index_select(block.norms.flatten(), 0, cells, out=norms[at].flatten())
        return stored, norms


def candidate_bytes(grid: tuple[int, int], channels: int) -> int:
    """Return how much memory one thread takes at most to score candidates, `float_scores` apart.

    That is values as stored, those that are kept of them, and these in float32, products in
    float32, and one step in float32 and two in float64.
    """
    image = grid[0] * grid[1] * channels
    taken, products = max(_VALUES_TAKEN, image), max(_VALUES_AT_ONCE, image)
    return 3 * 4 * taken + 4 * products + (2 * 8 + 4) * max(ELEMENTS_AT_ONCE, image)


def _float_scores_of_windows(
    query: Batch, cells: torch.Tensor, norms: torch.Tensor, scratch: Scratch
) -> NDArray[np.float64]:
    """Score windows whose kept cells are given, within `vfs_ops.kernel.float_pass.window_errors`.

    `cells` are as stored, shape (window, cell, channel), and `norms` their squared norms.
    """
    pattern, device = query.patterns[0], cells.device
    columns = query.columns.to(device)
    sums = scratch.take("window sums", (len(cells),), torch.float64, device)
    at_once = max(1, _VALUES_AT_ONCE // pattern.products.size)
    for start in range(0, len(cells), at_once):
        some = cells[start : start + at_once]
        made = scratch.take("window products", tuple(some.shape), torch.float32, device)
        found = made.copy_(some).mul_(columns).sum(dim=2).sum(dim=1)
        sums[start : start + at_once] = found
    squared = norms.double() @ torch.from_numpy(pattern.squared).to(device)
    scores: NDArray[np.float64] = (sums * squared.rsqrt().nan_to_num_(posinf=0)).cpu().numpy()
    return scores


def _spread_images(
    images: int, values: int, run: Callable[[slice, Scratch], Best], scratch: Scratch
) -> Best:
    """Spread images over threads, some at once, given how many values are taken of each."""
    share = max(-(-images // torch.get_num_threads()), _LEAST_IMAGES)
    at_once = min(share, max(1, _VALUES_TAKEN // values))
    found: list[Best] = []

    def some(start: int, scratch: Scratch) -> None:
        found.append(run(slice(start, min(start + at_once, images)), scratch))

    spread(range(0, images, at_once), some, scratch)
    return joined(found)
