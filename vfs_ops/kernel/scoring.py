"""The kernel: a batch of queries against blocks of feature maps.

A fast pass scores every window of every image, in float32 (`vfs_ops.kernel.float_pass`) or from the
compact form (`vfs_ops.kernel.compact_pass`), with a proven error bound, and only proposes: what
comes out of it is, for each image and query, a score that no window of the image exceeds. The few
images that could be among the best are scored again in float64 by `vfs_ops.kernel.deciding`, and
that decides. So hits have the same bits whatever the blocks, forms, threads and other queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Block, Part, Scratch, tensor_of
from vfs_ops.kernel.candidates import Images, candidate_bytes
from vfs_ops.kernel.compact_pass import compact_errors, compact_scores
from vfs_ops.kernel.deciding import Proposed, decide
from vfs_ops.kernel.exact import Pattern, exact_scores, not_finite
from vfs_ops.kernel.float_pass import (
    float_errors,
    float_pass_bytes,
    float_scores,
    loop_registers,
    rounding_of_factors,
)
from vfs_ops.kernel.spreading import spread
from vfs_ops.kernel.topk import Best
from vfs_ops.kernel.windows import best_two

_COMPACT_SHARE: Final = 0.25
"""Of a block's rows: where fewer may be hits, these alone are scored, from the stored values."""

_MANY_TAPS: Final = 80
"""Products of a cell, on average, from which on the compact form takes less than the compiled loop
over stored values, direct groups apart, which the loop always takes less for."""


def best_of_parts(
    batch: Batch,
    parts: Sequence[Part],
    k: int,
    floors: NDArray[np.float64] | None = None,
    scratch: Scratch | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Best]:
    """Return the best windows of some blocks for each query: at most `k`, one per group.

    Parameters
    ----------
    batch
        The queries.
    parts
        What to search. Several blocks in one call cost less than one by one: what is exactly
        scored is chosen from all of them.
    k
        How many to return at most.
    floors
        An exact score for each query, shape (query,): windows below it may be left out. It saves
        work where a search already has `k` better ones, and changes nothing else.
    scratch
        Buffers to use again; of this thread alone.
    cancelled
        Asked before each part, and each query that is decided. Once it says so, which is for good,
        the others are left out, and what is returned is of no use.

    Returns
    -------
    list of Best
        One per query.

    Raises
    ------
    DamagedError
        If an image's features are not finite.
    """
    scratch = Scratch() if scratch is None else scratch
    some = [part for part in parts if part.allowed.any()]
    queries = len(batch)
    if not some:
        return [Best.empty()] * queries
    rounding = _rounding(batch, some[0].block)
    proposed = [Proposed.nothing(queries, len(part.block)) for part in some]

    def propose(number: int, scratch: Scratch) -> None:
        if cancelled():
            return
        _propose(batch, some[number], rounding, proposed[number], scratch)

    spread(range(len(some)), propose, scratch)
    images, together = Images.of(some, rounding), Proposed.joined(proposed)
    least = np.full(queries, -np.inf) if floors is None else floors
    found = [Best.empty()] * queries

    def one(number: int, scratch: Scratch) -> None:
        if cancelled():
            return
        query, floor = batch.singles[number], float(least[number])
        found[number] = decide(query, images, together.of(number), k, floor, scratch)

    spread(range(queries), one, scratch)
    return found


def best_scores(
    batch: Batch,
    part: Part,
    scratch: Scratch | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the exact score of the best window of every image, and where it begins.

    Parameters
    ----------
    batch
        The queries.
    part
        The images.
    scratch
        Buffers to use again; of this thread alone.
    cancelled
        Asked before each query. Once it says so, the others are left out, and what is returned is
        of no use.

    Returns
    -------
    score : ndarray
        Shape (query, row); NaN for rows that are not allowed.
    y, x : ndarray
        Shape (query, row), -1 for rows that are not allowed. Of equal windows, the one with the
        lower y, then x.
    """
    scratch = Scratch() if scratch is None else scratch
    shape = (len(batch), len(part.block))
    score, y, x = np.full(shape, np.nan), np.full(shape, -1), np.full(shape, -1)
    images = Images.of([part], _rounding(batch, part.block))
    allowed = part.allowed_to(len(batch))
    for number, query in enumerate(batch.singles):
        if cancelled():
            break
        rows = np.flatnonzero(allowed[number])
        best = images.exact(query, rows, np.full(len(rows), -np.inf), scratch)
        order = np.lexsort((best.x, best.y, -best.score, best.group))
        row, first = np.unique(best.group[order], return_index=True)
        kept = order[first]
        score[number, row] = best.score[kept]
        y[number, row], x[number, row] = best.y[kept], best.x[kept]
    return score, y, x


def all_scores(pattern: Pattern, features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the exact score of every window of some feature maps.

    Parameters
    ----------
    pattern
        The query.
    features
        Shape (row, y, x, channel), contiguous, as stored.

    Returns
    -------
    ndarray
        Shape (row, offset y, offset x).
    """
    rows, *grid, _ = features.shape
    shape = (rows, *pattern.offsets((grid[0], grid[1])))
    windows = np.nonzero(np.ones(shape, np.bool_))
    stored = tensor_of(features).to(torch.float32).numpy()  # many times as fast as NumPy's
    return exact_scores(pattern, stored, *windows).reshape(shape)


def scratch_bytes(grid: tuple[int, int], channels: int, queries: int = 1) -> int:
    """Return how much memory one thread takes at most to score blocks without a compact form.

    It does not depend on the size of the blocks. Blocks themselves, queries and what is known of
    each image are not counted.

    Parameters
    ----------
    grid
        Cells along y and x of the feature maps.
    channels
        Values of a cell.
    queries
        Scored together.
    """
    return float_pass_bytes(grid, channels, queries) + candidate_bytes(grid, channels)


def _rounding(batch: Batch, block: Block) -> float:
    """Return what is added to ε where torch multiplies, not the compiled loop."""
    if loop_registers(batch, block.features) is not None:
        return 0.0
    return rounding_of_factors(*block.kind)


def _propose(batch: Batch, part: Part, rounding: float, bounds: Proposed, scratch: Scratch) -> None:
    """Score all windows of a part fast."""
    allowed = part.allowed_to(len(batch))
    needed = np.asarray(allowed.any(axis=0))
    if part.block.tiles and needed.mean() >= _COMPACT_SHARE and _compact_is_faster(batch, part):
        _propose_compact(batch, part.block, needed, bounds, scratch)
    else:
        _propose_float(batch, part.block, np.flatnonzero(needed), rounding, bounds, scratch)
    bounds.highest[~allowed] = -np.inf
    unknown = np.isnan(bounds.highest).any(axis=0)
    if unknown.any():
        raise not_finite(f"image {part.images[unknown][0]}")


def _compact_is_faster(batch: Batch, part: Part) -> bool:
    """Tell which pass takes less, where a block has a compact form."""
    if loop_registers(batch, part.block.features) is None:
        return True
    taps = sum(group.taps for group in batch.groups if not group.direct)
    return taps > _MANY_TAPS * math.prod(batch.grid)


def _propose_float(
    batch: Batch,
    block: Block,
    rows: NDArray[np.intp],
    rounding: float,
    bounds: Proposed,
    scratch: Scratch,
) -> None:
    errors = float_errors(batch, rounding)[:, None]
    for group, part, scores in float_scores(batch, block.features, block.norms, rows, scratch):
        highest, window, others = (best.cpu().numpy() for best in best_two(scores))
        at = np.ix_(group.queries, rows[part])
        bounds.highest[at] = highest + errors[group.queries]
        bounds.window[at] = window
        if math.prod(group.offsets) > 1:
            bounds.others[at] = others + errors[group.queries]


def _propose_compact(
    batch: Batch,
    block: Block,
    needed: NDArray[np.bool_],
    bounds: Proposed,
    scratch: Scratch,
) -> None:
    errors, start = compact_errors(batch), 0
    for tile in block.tiles:
        part = slice(start, start + len(tile.share))
        start = part.stop
        if needed[part].any():
            for group, scores, share in compact_scores(batch, tile, scratch):
                highest, window, others = (best.numpy() for best in best_two(scores))
                at = group.queries, part
                bounds.highest[at] = errors.bounds(group.queries, share.numpy(), highest)
                bounds.window[at] = window
                if math.prod(group.offsets) > 1:
                    bounds.others[at] = errors.bounds(group.queries, share.numpy(), others)
