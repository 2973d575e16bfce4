"""The fast pass in float32: scores every window of stored feature maps, within a proven bound.

On a processor the sums of products come from a compiled loop (`vfs_ops.kernel.compiled`), on a GPU,
and where the loop does not fit, from torch.

The bound. Let v = m·q / |m·q|, so that |v| = 1, and u = m·v. The exact score of a window s is
⟨u, s⟩ / |m·s|. The pass rounds u to float32 and adds up float32 products in whatever order the
library likes. With unit roundoff 2⁻²⁴ and γₙ = n·2⁻²⁴ / (1 - n·2⁻²⁴), a sum in which no product
meets more than n roundings differs by at most γₙ·Σ|uᵢsᵢ| (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., section 3.1), and Σ|uᵢsᵢ| = Σ|vᵢ|·|mᵢsᵢ| ≤ |m·s| by Cauchy and
Schwarz. So the numerator is off by at most γₙ of the denominator. In torch's products n is the
channels that are multiplied in one go, plus the sums of these that are added up, plus one for u.
The compiled loop adds all products of a window to as many sums as registers have room for
(`vfs_ops.kernel.taps.LANES`), one after the other, and these together: n is their share of the
products, plus their number, plus one. The larger one holds for both.

The inverse of the denominator is computed in float64 from squared norms that were rounded to
float32 once, and rounded to float32; it is multiplied, and ε is added, with one rounding each:
less than 7 roundings more, together ε = γₙ₊₇.

Nothing overflows: stored cells are zero or have 2⁻¹⁰⁰ ≤ |s|² < 2¹²⁸ (`vfs_ops.caches.values`), and
u is at most 1. Whatever underflows is off by less than 2⁻¹²⁶ (even where torch is told to flush
subnormals to zero), at most twice for each product; where the denominator is not zero it is at
least 2⁻⁵⁰ times the smallest weight. So (products)·2⁻⁷⁵ / (smallest weight) is added to ε. That is
above 1 for weights below 2⁻⁷⁵, and only these lead to an inverse that float32 cannot hold, for
which its largest number is taken: it makes a score smaller, and no score is above 1.

Torch may be told to round the factors of float32 products to bfloat16
(``torch.set_float32_matmul_precision("medium")``). Then each factor is off by at most 2⁻⁸ of
itself, and 2·2⁻⁸ + 2⁻¹⁶ is added to ε. A product of known factors shows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from vfs_ops.kernel.batches import COLUMNS_AT_ONCE, FEW_WINDOWS, Batch, Group
from vfs_ops.kernel.blocks import Scratch
from vfs_ops.kernel.taps import LANES
from vfs_ops.kernel.windows import WindowNorms, add_products

if TYPE_CHECKING:
    from vfs_ops.kernel.compiled import Registers

_BLOCK_BYTES: Final = 6 << 20
"""Of float32 features at once."""
_RESULT_BYTES: Final = 1 << 20
"""Of sums of windows and norms of cells at once, where features are not converted in passes."""
_LANES_BYTES: Final = 1 << 20
"""Of the compiled loop's sums at work: with more, torch's products take less."""
_NORMS_BYTES: Final = 16 << 20
"""Of norms of windows at once, likewise: each mask has its own, so that many queries would else
take more for them than for all the rest."""
_SIDEWAYS_COLUMNS: Final = 64
"""With as many columns, each column's products lie together: the product takes longer, and adding
up takes much less."""


def float_errors(batch: Batch, rounding: float) -> NDArray[np.float64]:
    """Return ε of each query: how far a score of the pass may be from the exact one.

    `rounding` is what `rounding_of_factors` returned.
    """
    errors = np.empty(len(batch))
    for group in batch.groups:
        length, sums = batch.channels, len(group.cells)
        if group.direct:
            high, wide = group.box
            length, sums = wide * batch.channels, high
        compiled = -(-len(group.cells) * batch.channels // LANES[0]) + LANES[-1]
        terms = max(length + sums, compiled) + 8
        for query, mask in zip(group.queries.tolist(), group.masks, strict=True):
            lightest = math.sqrt(min(batch.masks[mask]))
            errors[query] = (
                terms * 2.0**-24 / (1 - terms * 2.0**-24)
                + underflow(length * sums, lightest)
                + rounding
            )
    return errors


def window_errors(query: Batch) -> float:
    """Return ε of a single query where each window is multiplied by itself, value by value.

    That is done in float32, with the divisor in float64, so no factor is rounded.
    """
    pattern = query.patterns[0]
    terms, lightest = sum(pattern.products.shape) + 8, math.sqrt(pattern.squared.min())
    lost = underflow(pattern.products.size, lightest)
    return terms * 2.0**-24 / (1 - terms * 2.0**-24) + lost


def underflow(products: int, lightest: float) -> float:
    """Bound what is lost to underflow, given how many products are added and the smallest m."""
    return products * 2.0**-75 / lightest if lightest > 0 else math.inf


def float_scores(
    batch: Batch,
    features: torch.Tensor,
    norms: torch.Tensor,
    rows: NDArray[np.intp],
    scratch: Scratch,
) -> Iterator[tuple[Group, slice, torch.Tensor]]:
    """Score every window of some rows, a few rows at a time.

    Parameters
    ----------
    batch
        The queries.
    features
        Shape (row, y, x, channel), as stored.
    norms
        Squared norms of the cells, shape (row, y, x).
    rows
        Which rows to score, ascending.
    scratch
        Buffers.

    Yields
    ------
    group : Group
        Some of the queries.
    part : slice
        Which of `rows`.
    scores : torch.Tensor
        Float32, shape (query of the group, offset y, offset x, row of the part); valid until the
        next is asked for.
    """
    held = loop_registers(batch, features)
    at_once = _rows_at_once(features[0].numel()) if held is None else _rows_compiled(batch)
    for start in range(0, len(rows), at_once):
        part = slice(start, min(start + at_once, len(rows)))
        divide = WindowNorms(batch, _chosen(norms, rows[part]).permute(1, 2, 0).double())
        if held is not None:
            for group, sums in _compiled_sums(batch, features, rows[part], held, scratch):
                yield group, part, divide.divide(group, sums)
            continue
        stored = _chosen(features, rows[part])
        if batch.bundles:
            for group, sums in _cell_products(batch, stored, scratch):
                yield group, part, divide.divide(group, sums)
        if batch.direct:
            for group, sums in _window_products(batch, stored, scratch):
                yield group, part, divide.divide(group, sums)


def float_pass_bytes(grid: tuple[int, int], channels: int, queries: int) -> int:
    """Return how much memory `float_scores` takes at most, in one thread.

    In torch that is rows as stored and in float32, by cells and by windows; products and their
    sums, each with as many columns as fit one product, or one query's; and norms of cells and
    windows. In the compiled loop it is norms and sums alone.
    """
    cells = grid[0] * grid[1]
    columns = max(cells, min(COLUMNS_AT_ONCE, queries * cells))
    each = 3 * 4 * channels + 2 * 4 * columns + 8 * (1 + 2 * queries)
    rows, norms = max(1, _RESULT_BYTES // (8 * cells)), queries * _norm_bytes(cells)
    compiled = 3 * _RESULT_BYTES + _LANES_BYTES + max(norms, min(rows * norms, _NORMS_BYTES))
    return max(_rows_at_once(cells * channels) * cells * each, compiled)


def _rows_at_once(values: int) -> int:
    return max(1, _BLOCK_BYTES // (4 * values))


def _rows_compiled(batch: Batch) -> int:
    """Return how many rows the compiled loop is given: so many that results stay in the cache."""
    cells, sums = math.prod(batch.grid), max(taps.sums for _, taps in batch.taps)
    windows = {mask: math.prod(group.offsets) for group in batch.groups for mask in group.masks}
    norms = sum(map(_norm_bytes, windows.values()))
    return max(1, min(_RESULT_BYTES // (8 * cells + 4 * sums), _NORMS_BYTES // norms))


def _norm_bytes(windows: int) -> int:
    """Return what is kept of a row's norms for a mask: inverses, and squares of few windows."""
    return 4 * windows + 8 * min(windows, FEW_WINDOWS)


def _chosen(tensor: torch.Tensor, rows: NDArray[np.intp]) -> torch.Tensor:
    """Return some rows; a view where they follow each other."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows):
        return tensor[first : last + 1]
    return tensor.index_select(0, torch.from_numpy(rows).to(tensor.device))


def loop_registers(batch: Batch, features: torch.Tensor) -> Registers | None:
    """Return how the compiled loop scores a block; None where torch does, as on a GPU.

    The loop takes processors that convert float16, channels that fill registers, and no more sums
    at once than stay in the processor's cache; if it takes a batch, it takes each of its queries.
    """
    on_processor = features.device.type == "cpu" and features.is_contiguous()
    if not on_processor or features.dtype not in (torch.float16, torch.float32):
        return None
    from vfs_ops.kernel.compiled import registers

    held = registers()
    if held is None or features.shape[3] % held.lanes != 0:
        return None
    fits = 4 * batch.sums_at_once * held.images * held.lanes <= _LANES_BYTES
    return held if fits else None


def _compiled_sums(
    batch: Batch,
    features: torch.Tensor,
    rows: NDArray[np.intp],
    held: Registers,
    scratch: Scratch,
) -> Iterator[tuple[Group, torch.Tensor]]:
    """Add up the products of each window, of some rows of a block as it is stored."""
    from vfs_ops.kernel.compiled import add_up, scratch_values

    stored = features.numpy()
    for groups, taps in batch.taps:
        room = scratch.take("lanes", (scratch_values(taps, held),), torch.float32)
        sums = scratch.take("sums", (taps.sums, len(rows)), torch.float32)
        add_up(stored, rows, taps, held, room.numpy(), sums.numpy())
        start = 0
        for group in groups:
            shape = (len(group.queries), *group.offsets, len(rows))
            end = start + math.prod(shape[:3])
            yield group, sums[start:end].view(shape)
            start = end


def _cell_products(
    batch: Batch, stored: torch.Tensor, scratch: Scratch
) -> Iterator[tuple[Group, torch.Tensor]]:
    """Multiply all cells with all columns, and add up the products of each window."""
    (rows, *grid, channels), device = stored.shape, stored.device
    buffer = scratch.take("cells", (*grid, rows, channels), torch.float32, device)
    cells = buffer.copy_(stored.permute(1, 2, 0, 3)).view(-1, channels)
    for bundle in batch.bundles:
        columns = bundle.columns.to(device)
        if len(columns) < _SIDEWAYS_COLUMNS:
            made = scratch.take("products", (len(cells), len(columns)), torch.float32, device)
            products = torch.mm(cells, columns.T, out=made).T
        else:
            made = scratch.take("products", (len(columns), len(cells)), torch.float32, device)
            products = torch.mm(columns, cells.T, out=made)
        maps = products.view(len(columns), *grid, rows)
        start = 0
        for group in bundle.groups:
            shape = (len(group.queries), *group.offsets, rows)
            sums = scratch.take("sums", shape, torch.float32, device).zero_()
            add_products(group, maps[start : start + group.size], sums)
            start += group.size
            yield group, sums


def _window_products(
    batch: Batch, stored: torch.Tensor, scratch: Scratch
) -> Iterator[tuple[Group, torch.Tensor]]:
    """Multiply each window with the query, one row of its cells at a time."""
    (rows, _, across, channels), device = stored.shape, stored.device
    block = scratch.take("windows", tuple(stored.shape), torch.float32, device).copy_(stored)
    for group in batch.direct:
        columns = group.rows_of_box.to(device)
        length, queries = columns.shape[1:]
        shape = (*group.offsets, rows, queries)
        sums = scratch.take("sums", shape, torch.float32, device).zero_()
        for y, x in group.windows:
            for row, column in enumerate(columns):
                begin = ((y + row) * across + x) * channels
                window = block.as_strided((rows, length), (block.stride(0), 1), begin)
                sums[y, x].addmm_(window, column)
        yield group, sums.permute(3, 0, 1, 2)


@torch.inference_mode()
def rounding_of_factors(channels: int, device: torch.device) -> float:
    """Return what is added to ε because torch rounds the factors of float32 products, or 0."""
    shown = 1 + 2.0**-12  # no bfloat16 or TF32, and 16 of them add up exactly
    left = torch.zeros((256, channels), dtype=torch.float32, device=device)
    left[:, :16] = shown
    right = torch.ones((channels, 16), dtype=torch.float32, device=device)
    expected = shown * min(16, channels)
    with torch.autocast(device.type, enabled=False):
        products = (torch.mm(left, right), torch.mm(left, right[:, :1].contiguous()))
    exact = all(bool((product == expected).all()) for product in products)
    return 0 if exact else 2 * 2.0**-8 + 2.0**-16
