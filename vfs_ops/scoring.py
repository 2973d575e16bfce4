"""The search kernel: one query against one block of feature maps.

A fast pass in float32 gives every window a score with a proven error bound ε. It proposes: all
that the bound cannot exclude is scored again by `vfs_ops.exact`, and that decides.

The bound. Let v = m·q / |m·q|, so that |v| = 1, and u = m·v. The exact score of a window s is
⟨u, s⟩ / |m·s|. The pass rounds u to float32 and sums float32 products, L at a time, in whatever
order the library likes, and adds those sums, the norms and all else in float64. With unit roundoff
2⁻²⁴ and γₙ = n·2⁻²⁴ / (1 - n·2⁻²⁴), a sum of L products, of factors one of which was rounded,
differs by at most γ_{L+1}·Σ|uᵢsᵢ| (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
section 3.1), and Σ|uᵢsᵢ| = Σ|vᵢ|·|mᵢsᵢ| ≤ |m·s| by Cauchy and Schwarz. So the numerator is off by
at most γ_{L+1} of the denominator; the denominator, from squared norms that were rounded to float32
once, by less than 2⁻²⁴ of itself; float64 and the decision's own rounding by far less than another
2⁻²⁴. Together ε = γ_{L+4}. Nothing over- or underflows: stored cells are zero or have
2⁻¹⁰⁰ ≤ |s|² < 2¹²⁸ (`vfs_ops.values`), u is at most 1, and what little a subnormal loses lies below
the slack of the bound.

Torch may be told to round the factors of float32 products to bfloat16
(``torch.set_float32_matmul_precision("medium")``). Then each factor is off by at most 2⁻⁸ of
itself, and 2·2⁻⁸ + 2⁻¹⁶ is added to ε. A product of known factors shows it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from vfs_ops.errors import QueryError
from vfs_ops.exact import Pattern, exact_scores
from vfs_ops.topk import Best, best_of

_BLOCK_BYTES: Final = 16 << 20
"""Of float32 features at once. 2 MiB is up to a fifth faster on idle processors, and several times
slower on busy ones, where all threads wait for the last at the end of each block."""
_PRODUCT_BYTES: Final = 8 << 20  # of products of cells, so that adding them up is few large steps
_COLUMNS_AT_ONCE: Final = 128  # cells of the query that are multiplied with a block together
_DIRECT_COST: Final = 20
"""Time of one multiplication in a product of a matrix and a vector, over that in a product of two
matrices: measured 15 to 30 on two cores with AVX-512."""
_NARROW_COLUMNS: Final = 8  # a product with fewer columns takes no less time than with these


@dataclass(frozen=True, eq=False)
class Kernel:
    """A query made ready for feature maps of one grid."""

    pattern: Pattern
    grid: tuple[int, int]
    direct: bool
    """Whether each window is multiplied by itself, or all cells with all cells of the query."""
    factors: torch.Tensor
    """Float32. Direct: (box row, box column · channel), zero where the weight is.
    Otherwise: (kept cell, channel)."""
    error: float
    """ε: how far a score of the fast pass may be from the exact one."""

    @classmethod
    def of(cls, pattern: Pattern, grid: tuple[int, int]) -> Self:
        """Choose how to compute and bound the error.

        Multiplying all cells of a feature map with the query's takes rows · columns · kept
        multiplications, but as one product of matrices. Multiplying each window takes
        offsets · box multiplications, `_DIRECT_COST` times as slow each: it wins where the box is
        nearly the whole grid.

        Raises
        ------
        QueryError
            If the region is larger than the grid.
        """
        (high, wide), (down, across) = pattern.size, pattern.offsets(grid)
        if down < 1 or across < 1:
            raise QueryError(
                f"the region covers {high} × {wide} cells; the cache's feature maps have "
                f"{grid[0]} × {grid[1]}; make the query with the cache's own extractor"
            )
        kept = len(pattern.squared)
        direct = _DIRECT_COST * down * across * high * wide < grid[0] * grid[1] * max(
            kept, _NARROW_COLUMNS
        )
        if direct:
            dense = np.zeros((high, wide, pattern.channels))
            dense[pattern.cells[:, 0], pattern.cells[:, 1]] = pattern.products
            factors = torch.from_numpy(dense.reshape(high, -1).astype(np.float32))
        else:
            factors = torch.from_numpy(pattern.products.astype(np.float32))
        terms = factors.shape[1] + 4
        error = terms * 2.0**-24 / (1 - terms * 2.0**-24)
        if _factors_are_rounded(factors):
            error += 2 * 2.0**-8 + 2.0**-16
        return cls(pattern, grid, direct, factors, error)


def best_of_block(
    kernel: Kernel,
    features: NDArray[np.floating],
    sq_norm: NDArray[np.float32],
    rows: NDArray[np.intp],
    images: NDArray[np.int64],
    groups: NDArray[np.int64],
    k: int,
    floor: float = -np.inf,
) -> Best:
    """Return the best windows of a block, at most `k`, one per group.

    Parameters
    ----------
    kernel
        The query.
    features
        Shape (row, y, x, channel), float16 or float32, finite; as stored.
    sq_norm
        Shape (row, y, x): the squared norms of the cells, rounded once to float32.
    rows
        The rows of the block that may be hits, ascending.
    images, groups
        Number of the image and of its group, for every row of the block.
    k
        How many to return at most.
    floor
        An exact score: windows below it may be left out. It saves work where a search already has
        `k` better ones, and changes nothing else.

    Returns
    -------
    Best
    """
    if not len(rows):
        return Best.empty()
    features = np.ascontiguousarray(features)
    fast = _fast_scores(kernel, features, sq_norm, rows)
    highest = fast.max(axis=(1, 2))
    # At least k groups have an exact score of `lowest` - ε or more, so an image below
    # `lowest` - 2ε is not among the best k, and below `floor` - ε not among those of the search.
    lowest = _kth_group(highest, groups[rows], k)
    (proposed,) = np.nonzero(highest >= max(lowest - 2 * kernel.error, floor - kernel.error))
    if len(proposed) > k:
        first = _without_copies(features, rows[proposed], groups[rows[proposed]], k)
        proposed = proposed[first]
    near_best = fast[proposed] >= (highest[proposed] - 2 * kernel.error)[:, None, None]
    which, y, x = np.nonzero(near_best)
    row = rows[proposed[which]]
    score = exact_scores(kernel.pattern, features, row, y, x)
    return best_of([Best(score, images[row], y, x, groups[row])], k)


def _without_copies(
    features: NDArray[np.floating], rows: NDArray[np.intp], groups: NDArray[np.int64], k: int
) -> list[int]:
    """Leave out rows that equal `k` earlier ones of other groups, or one of their own.

    They score the same and lose the tie, so blank images by the thousand are not scored exactly.
    """
    copies: Counter[bytes] = Counter()
    seen: set[tuple[bytes, int]] = set()
    kept = []
    for number, (row, group) in enumerate(zip(rows.tolist(), groups.tolist(), strict=True)):
        digest = hashlib.sha256(features[row].data).digest()
        if copies[digest] < k and (digest, group) not in seen:
            copies[digest] += 1
            seen.add((digest, group))
            kept.append(number)
    return kept


def _kth_group(highest: NDArray[np.float64], groups: NDArray[np.int64], k: int) -> float:
    """Return the k-th highest of the groups' highest scores; -inf if there are fewer groups."""
    found, number = np.unique(groups, return_inverse=True)
    if len(found) <= k:
        return -np.inf
    of_group = np.full(len(found), -np.inf)
    np.maximum.at(of_group, number, highest)
    return float(np.partition(of_group, -k)[-k])


@torch.inference_mode()
def _fast_scores(
    kernel: Kernel,
    features: NDArray[np.floating],
    sq_norm: NDArray[np.float32],
    rows: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Score every window of some rows within the error bound, shape (row, y, x)."""
    down, across = kernel.pattern.offsets(kernel.grid)
    blocks = _Blocks(_tensor(features), rows)
    norms = torch.from_numpy(sq_norm[rows].astype(np.float64))
    similarity = torch.zeros((len(rows), down, across), dtype=torch.float64, device="cpu")
    with torch.autocast("cpu", enabled=False):
        if kernel.direct:
            _multiply_windows(kernel, blocks, similarity)
        else:
            _multiply_cells(kernel, blocks, similarity)
    squared = torch.zeros_like(similarity)
    for (y, x), weight in zip(
        kernel.pattern.cells.tolist(), kernel.pattern.squared.tolist(), strict=True
    ):
        squared.add_(norms[:, y : y + down, x : x + across], alpha=weight)
    scores = similarity.div_(squared.sqrt_())
    return scores.nan_to_num_(nan=0.0).numpy()  # 0 / 0, where all cells are zero


class _Blocks:
    """Chosen rows of stored features, a few at a time in float32."""

    def __init__(self, features: torch.Tensor, rows: NDArray[np.intp]) -> None:
        self.features, self.rows = features, rows
        self.size = min(len(rows), max(1, _BLOCK_BYTES // (4 * features[0].numel())))
        self._buffer = torch.empty(
            (self.size, *features.shape[1:]), dtype=torch.float32, device="cpu"
        )

    def load(self, start: int, stop: int) -> torch.Tensor:
        """Return rows `start` to `stop` of the chosen ones; valid until the next call."""
        chosen = self.rows[start:stop]
        first, last = int(chosen[0]), int(chosen[-1])
        if last - first + 1 == len(chosen):
            stored = self.features[first : last + 1]
        else:
            stored = self.features[torch.from_numpy(chosen)]
        return self._buffer[: stop - start].copy_(stored)


def _multiply_cells(kernel: Kernel, blocks: _Blocks, similarity: torch.Tensor) -> None:
    """Multiply all cells with all of the query's, and add up the products of each window."""
    count, down, across = similarity.shape
    rows, columns = kernel.grid
    cells, channels = rows * columns, kernel.pattern.channels
    wide = min(len(kernel.factors), _COLUMNS_AT_ONCE)
    blocks_at_once = max(1, _PRODUCT_BYTES // (4 * cells * wide * blocks.size))
    at_once = min(count, blocks_at_once * blocks.size)
    buffer = torch.empty(at_once * cells * wide, dtype=torch.float32, device="cpu")
    for column in range(0, len(kernel.factors), wide):
        factors = kernel.factors[column : column + wide]
        positions = kernel.pattern.cells[column : column + wide].tolist()
        for begin in range(0, count, at_once):
            end = min(begin + at_once, count)
            products = buffer[: (end - begin) * cells * len(factors)].view(-1, len(factors))
            for start in range(begin, end, blocks.size):
                stop = min(start + blocks.size, end)
                block = blocks.load(start, stop).view(-1, channels)
                part = products[(start - begin) * cells : (stop - begin) * cells]
                torch.mm(block, factors.T, out=part)
            maps = products.view(end - begin, rows, columns, len(factors))
            for number, (y, x) in enumerate(positions):
                similarity[begin:end].add_(maps[:, y : y + down, x : x + across, number])


def _multiply_windows(kernel: Kernel, blocks: _Blocks, similarity: torch.Tensor) -> None:
    """Multiply each window with the query, one row of its cells at a time."""
    count, down, across = similarity.shape
    columns, channels = kernel.grid[1], kernel.pattern.channels
    high, length = kernel.factors.shape
    buffer = torch.empty((high, blocks.size), dtype=torch.float32, device="cpu")
    for start in range(0, count, blocks.size):
        stop = min(start + blocks.size, count)
        block = blocks.load(start, stop)
        products = buffer[:, : stop - start]
        for y in range(down):
            for x in range(across):
                for row in range(high):
                    begin = ((y + row) * columns + x) * channels
                    cells = block.as_strided((stop - start, length), (block.stride(0), 1), begin)
                    torch.mv(cells, kernel.factors[row], out=products[row])
                similarity[start:stop, y, x] = products.sum(dim=0, dtype=torch.float64)


@torch.inference_mode()
def _factors_are_rounded(factors: torch.Tensor) -> bool:
    """Tell whether torch rounds the factors of float32 products, as it may be told to do."""
    shown = 1 + 2.0**-12  # no bfloat16 or TF32, and 16 of them add up exactly
    left = torch.zeros((256, factors.shape[1]), dtype=torch.float32, device="cpu")
    left[:, :16] = shown
    right = torch.ones((factors.shape[1], factors.shape[0]), dtype=torch.float32, device="cpu")
    expected = shown * min(16, factors.shape[1])
    with torch.autocast("cpu", enabled=False):
        product, single = torch.mm(left, right), torch.mv(left, right[:, 0].contiguous())
    return not (bool((product == expected).all()) and bool((single == expected).all()))


def _tensor(array: NDArray[np.floating]) -> torch.Tensor:
    """Return a tensor on an array's memory, which is only read."""
    if array.flags.writeable:
        return torch.from_numpy(array)
    interface: dict[str, Any] = dict(array.__array_interface__)
    interface["data"] = (interface["data"][0], False)  # torch warns of read-only memory
    view = np.asarray(SimpleNamespace(__array_interface__=interface, owner=array))
    return torch.from_numpy(view)
