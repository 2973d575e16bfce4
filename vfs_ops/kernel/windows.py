"""Sums over windows: products of cells added up per offset, and the norms to divide by.

Cells lie as (y, x, row) throughout: each offset is a shift of whole planes, and the sums run over
long contiguous rows.
"""

from __future__ import annotations

from typing import Final

import torch

from vfs_ops.kernel.batches import Batch, Group

_LARGEST: Final = torch.finfo(torch.float32).max


class WindowSums:
    """Σ m²·value of every window of some rows, for each distinct mask of a batch, when asked."""

    def __init__(self, batch: Batch, values: torch.Tensor) -> None:
        """`values` are of cells, not negative, in float64, shape (y, x, row)."""
        self._batch, self._values = batch, values
        self._known: dict[int, torch.Tensor] = {}

    def of(self, group: Group, mask: int) -> torch.Tensor:
        """Return the sums for one of a group's masks, shape (offset y, offset x, row).

        Those of many windows are not kept: who asks for them keeps what is made of them.
        """
        weights = self._batch.masks[mask]
        if not group.direct:
            return self._of_many_windows(group, weights)
        if mask not in self._known:
            self._known[mask] = self._of_few_windows(group, weights)
        return self._known[mask]

    def _of_many_windows(self, group: Group, weights: tuple[float, ...]) -> torch.Tensor:
        down, across = group.offsets
        sums = self._values.new_zeros((down, across, self._values.shape[2]))
        for (y, x), weight in zip(group.cells, weights, strict=True):
            sums.add_(self._values[y : y + down, x : x + across], alpha=weight)
        return sums

    def _of_few_windows(self, group: Group, weights: tuple[float, ...]) -> torch.Tensor:
        planes = self._values.flatten(0, 1)
        factors = torch.tensor(weights, dtype=torch.float64, device=planes.device)
        sums = [factors @ planes[group.places(at, self._values.shape[1])] for at in group.windows]
        return torch.stack(sums).view(*group.offsets, -1)


class WindowNorms:
    """1 / √Σ m²|s|² of every window of some rows, or float32's largest number if that is less."""

    def __init__(self, batch: Batch, norms: torch.Tensor) -> None:
        """`norms` are squared norms of cells in float64, shape (y, x, row)."""
        self._sums = WindowSums(batch, norms)
        self._known: dict[int, torch.Tensor] = {}

    def divide(self, group: Group, sums: torch.Tensor) -> torch.Tensor:
        """Turn sums of products into scores, in place.

        `sums` has shape (query, offset y, offset x, row). Where a window's norm is 0, so are the
        sum and the score.
        """
        if len(set(group.masks)) == 1:
            return sums.mul_(self._inverse(group, group.masks[0]))
        for number, mask in enumerate(group.masks):
            sums[number].mul_(self._inverse(group, mask))
        return sums

    def shares(self, group: Group, lost: WindowSums) -> torch.Tensor:
        """Return the largest √(lost / norm²) of each image's windows, shape (query, row)."""
        found = []
        for mask in group.masks:
            share = lost.of(group, mask) / self._sums.of(group, mask)
            found.append(share.nan_to_num_(nan=0).amax(dim=(0, 1)).sqrt_())  # 0 / 0: nothing lost
        return torch.stack(found)

    def _inverse(self, group: Group, mask: int) -> torch.Tensor:
        if mask not in self._known:
            inverse = self._sums.of(group, mask).rsqrt().clamp_(max=_LARGEST)
            self._known[mask] = inverse.to(torch.float32)
        return self._known[mask]


def add_products(
    group: Group, products: torch.Tensor, sums: torch.Tensor, steps: torch.Tensor | None = None
) -> None:
    """Add the products of all cells up to sums of windows.

    Parameters
    ----------
    group
        The queries.
    products
        Float32, shape (cell · query, y, x, row): of every cell of the grid with every column.
    sums
        Float32, shape (query, offset y, offset x, row); added to.
    steps
        Factors of the columns, shape (cell, query); none for 1.
    """
    down, across = group.offsets
    queries = len(group.queries)
    for number, (y, x) in enumerate(group.cells):
        of_cell = products[number * queries : (number + 1) * queries]
        shifted = of_cell[:, y : y + down, x : x + across]
        if steps is None:
            sums.add_(shifted)
        else:
            sums.addcmul_(shifted, steps[number, :, None, None, None])


def best_two(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return each image's highest score of a window, which window, and the highest of the others.

    `scores` has shape (query, offset y, offset x, row), and may be overwritten; the results have
    shape (query, row). Windows are numbered row by row; of a single window, the others score -inf.
    """
    windows = scores.flatten(1, 2)
    highest, window = windows.max(dim=1)
    others = windows.scatter_(1, window[:, None], -torch.inf).amax(dim=1)
    return highest, window, others
