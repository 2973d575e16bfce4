"""The fast pass over the compact form: proposes images, within a proven bound.

The bound. Let v and u be as in `vfs_ops.kernel.float_pass`; the exact score of a window s is ⟨u, s⟩
/ |m·s|. The pass has û for u (`vfs_ops.kernel.batches`) and ŝ for s (`vfs_ops.kernel.compact`), and

    ⟨u, s⟩ = ⟨û, ŝ⟩ + ⟨u - û, ŝ⟩ + ⟨u, s - ŝ⟩.

Let ρ be |m·(s - ŝ)| / |m·s|, or the largest |s - ŝ| / |s| of the image's cells, which is no less,
and η = √Σ|û - u|²/m². Since |ŝ| ≤
(1 + ρ)|s|, the second term is at most η(1 + ρ)|m·s| by Cauchy and Schwarz. Products of int8 and
their sums are exact in int32, so rounding comes in only when they become float32, are multiplied
with two scales, and are added up: no term meets more than 2n + 4 roundings, with the high and low
parts of n cells. A cell's two terms are together at most (|û| + 2|low part|)·|ŝ|, where the low
part is at most √C/254 of |u| with C channels, so less than 2(|u| + |û - u|)·(1 + ρ)|s| below
16,129 channels. So what is computed is F = ⟨u, ŝ⟩ / |m·s| up to

    δ = (1 + ρ)·(η + 2(1 + η)·γ₂ₙ₊₄ + 2⁻²¹) + γ₈ + underflow,

the last two as in the pass in float32, with one rounding more where float32 keeps a bound. The
2⁻²¹ belong to the third term: what is lost of a cell has a part along what is kept, less than 2⁻²¹
of it, since its scale is rounded (`vfs_ops.kernel.compact`).

The rest of what is lost is at right angles to what is kept, so that m·(s - ŝ) is to m·ŝ. Hence only
the part of v across m·ŝ meets it, which has length √(1 - c²) with the cosine c = ⟨v, m·ŝ⟩ / |m·ŝ|
and |c| ≥ |F|, as |m·ŝ| ≤ |m·s|. So the third term is at most ρ·√(1 - F²)·|m·s|, and the exact score
at most h(F) = F + ρ·√(1 - F²), which rises with F up to 1/√(1 + ρ²), where it is √(1 + ρ²). So no
window of an image exceeds h(F + δ) of its highest F. Near the top of a list of similar images this
is much less than F + ρ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from vfs_ops.kernel.batches import LOW_STEPS, Batch, Bundle, Group
from vfs_ops.kernel.blocks import Scratch
from vfs_ops.kernel.compact import Tile
from vfs_ops.kernel.float_pass import underflow
from vfs_ops.kernel.windows import WindowNorms, WindowSums, add_products

_SIDEWAYS_COLUMNS: Final = 64
"""With as many columns, each column's products lie together: the product takes longer, and adding
up takes much less. Where all are of one group, each meets only the cells that it needs."""


@dataclass(frozen=True, eq=False)
class CompactErrors:
    """How far off the scores of the pass may be, for each query of a batch."""

    factor: NDArray[np.float64]
    """What is multiplied with 1 + ρ in δ, shape (query,)."""
    rest: NDArray[np.float64]
    """What is added to it, shape (query,)."""

    def bounds(
        self, queries: NDArray[np.intp], share: NDArray[np.float64], highest: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return what no exact score of some queries' windows exceeds.

        `share` is ρ of the queries and rows, shape (query, row) or (1, row); `highest` are the
        highest scores of the pass, shape (query, row), like the result; NaN stays NaN.
        """
        off = self.factor[queries, None] * (1 + share) + self.rest[queries, None]
        top = 1 / np.sqrt(1 + share**2)
        true = np.clip(highest + off, -1, top)
        bounds: NDArray[np.float64] = true + share * np.sqrt(1 - true**2)
        return np.where(np.isfinite(off) | np.isnan(highest), bounds, np.inf)


def compact_errors(batch: Batch) -> CompactErrors:
    """Bound the errors of a batch."""
    factor, rest = np.empty(len(batch)), np.empty(len(batch))
    for group in batch.groups:
        count = len(group.cells)
        rounding = (2 * count + 4) * 2.0**-24 / (1 - (2 * count + 4) * 2.0**-24)
        factor[group.queries] = group.lost + 2 * (1 + group.lost) * rounding + 2.0**-21
        for query, mask in zip(group.queries.tolist(), group.masks, strict=True):
            lightest = math.sqrt(min(batch.masks[mask]))
            rest[query] = 8 * 2.0**-24 + underflow(count * batch.channels, lightest)
    return CompactErrors(factor, rest)


def compact_scores(
    batch: Batch, tile: Tile, scratch: Scratch
) -> Iterator[tuple[Group, torch.Tensor, torch.Tensor]]:
    """Score every window of a tile.

    Yields
    ------
    group : Group
        Some of the queries.
    scores : torch.Tensor
        Float32, shape (query of the group, offset y, offset x, row); valid until the next is asked
        for.
    share : torch.Tensor
        ρ of each row, shape (query, row) or (1, row).
    """
    divide, lost = WindowNorms(batch, tile.norms), WindowSums(batch, tile.lost)
    for bundle in batch.bundles:
        if len(bundle.groups) == 1 and len(bundle.columns) >= _SIDEWAYS_COLUMNS:
            [group] = bundle.groups
            yield group, divide.divide(group, _row_products(group, tile, scratch)), tile.share[None]
            continue
        maps = _products(bundle, tile, scratch)
        start, low = 0, len(bundle.columns)
        for group in bundle.groups:
            shape = (len(group.queries), *group.offsets, tile.values.shape[2])
            sums = scratch.take("sums", shape, torch.float32).zero_()
            end = start + group.size
            add_products(group, maps[start:end], sums, group.steps)
            add_products(group, maps[low + start : low + end], sums, group.steps / LOW_STEPS)
            start = end
            yield group, divide.divide(group, sums), tile.share[None]
    for group in batch.direct:
        scores = divide.divide(group, _window_products(group, tile, scratch))
        yield group, scores, divide.shares(group, lost)


def _products(bundle: Bundle, tile: Tile, scratch: Scratch) -> torch.Tensor:
    """Multiply all cells of a tile with all parts of columns: shape (part, y, x, row), float32."""
    cells, parts = tile.values.flatten(0, 2), bundle.parts
    sums = tile.zero * parts.sum(dim=1, dtype=torch.int32)
    if len(parts) < _SIDEWAYS_COLUMNS:
        made = scratch.take("compact products", (len(cells), len(parts)), torch.int32)
        torch._int_mm(cells, parts.T, out=made).add_(sums)
        products = made.view(torch.float32).copy_(made).mul_(tile.scales.view(-1, 1)).T
    else:
        made = scratch.take("compact products", (len(parts), len(cells)), torch.int32)
        torch._int_mm(parts, cells.T, out=made).add_(sums[:, None])
        products = made.view(torch.float32).copy_(made).mul_(tile.scales.view(-1))
    return products.view(len(parts), *tile.values.shape[:3])


def _row_products(group: Group, tile: Tile, scratch: Scratch) -> torch.Tensor:
    """Multiply each column with the cells that it meets in some window, a row of them at once."""
    down, across = group.offsets
    queries, rows = len(group.queries), tile.values.shape[2]
    low = torch.tensor([[1.0], [1 / LOW_STEPS]], dtype=torch.float32)
    sums = scratch.take("sums", (queries, down, across * rows), torch.float32).zero_()
    made = scratch.take("compact products", (2 * queries, across * rows), torch.int32)
    products = made.view(torch.float32)
    for number, (y, x) in enumerate(group.cells):
        parts = group.parts[:, number].flatten(0, 1)
        zeros = tile.zero * parts.sum(dim=1, dtype=torch.int32)[:, None]
        steps = (low * group.steps[number]).view(-1, 1)
        for row in range(down):
            cells = tile.values[y + row, x : x + across].flatten(0, 1)
            scales = tile.scales[y + row, x : x + across].flatten()
            torch._int_mm(parts, cells.T, out=made).add_(zeros)
            for part in products.copy_(made).mul_(steps).view(2, queries, -1):
                sums[:, row].addcmul_(part, scales)
    return sums.view(queries, down, across, rows)


def _window_products(group: Group, tile: Tile, scratch: Scratch) -> torch.Tensor:
    """Multiply each cell of each window with its own columns alone."""
    _, across, rows, _ = tile.values.shape
    queries, cells = len(group.queries), len(group.cells)
    planes, scales = tile.values.flatten(0, 1).unbind(), tile.scales.flatten(0, 1)
    parts = group.parts.permute(1, 0, 2, 3).flatten(1, 2)  # (cell, part · query, channel)
    columns = parts.transpose(1, 2).unbind()
    zeros = tile.zero * parts.sum(dim=2, dtype=torch.int32).T[..., None]
    low = torch.tensor([[1.0], [1 / LOW_STEPS]], dtype=torch.float32)
    steps = (low * group.steps[:, None]).flatten(1).T[..., None]
    sums = scratch.take("sums", (queries, *group.offsets, rows), torch.float32)
    made = scratch.take("compact products", (cells, rows, 2 * queries), torch.int32)
    turned = scratch.take("compact columns", (2 * queries, cells, rows), torch.int32)
    products, outputs = turned.view(torch.float32), made.unbind()
    for y, x in group.windows:
        places = group.places((y, x), across)
        for place, column, output in zip(places, columns, outputs, strict=True):
            torch._int_mm(planes[place], column, out=output)
        turned.copy_(made.permute(2, 0, 1)).add_(zeros)
        products.copy_(turned).mul_(scales[places]).mul_(steps)
        torch.sum(products.sum(dim=1).view(2, queries, rows), dim=0, out=sums[:, y, x])
    return sums
