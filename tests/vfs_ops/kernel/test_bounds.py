"""No fast pass is further from the score in float64 than its bound says, for any window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import block_of, parts_of

from vfs_ops.caches.values import squared_norms
from vfs_ops.kernel import batches, candidates, compact, compact_pass, float_pass
from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Scratch
from vfs_ops.kernel.candidates import Images
from vfs_ops.kernel.compact_pass import compact_errors, compact_scores
from vfs_ops.kernel.compiled import registers
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.float_pass import (
    float_errors,
    float_scores,
    loop_registers,
    rounding_of_factors,
    window_errors,
)

Window = tuple[int, np.ndarray, np.ndarray, np.ndarray]
"""Number of the query, rows, and between what their windows' scores must lie, (row, y, x) each."""


def cells_of(kind: str, count: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Return cells of one kind that float16 can hold, shape (count, channel)."""
    cells = rng.standard_normal((count, channels))
    if kind == "subnormal":
        cells = rng.integers(-3, 4, cells.shape) * 2.0**-24
    if kind == "large":
        cells = rng.choice([-65504.0, 65504.0, 60000.0, 3.0], cells.shape)
    if kind == "constant":
        cells[:] = rng.choice([1.0, -1 / 3, 2.0**-14, 4096.5], (count, 1))
    if kind == "all magnitudes":
        cells = np.clip(cells, -6, 6) * 10 ** rng.uniform(-7, 4, cells.shape)
    if kind == "two levels":  # every value in the middle between two steps of a byte
        cells = rng.integers(0, 2, cells.shape) * 0.5 / 255
        cells[:, 0] = 1
    if kind == "drowned":  # one large product, then many that each round the same way beside it
        cells[:] = 2.0**-13 * (1 - 2.0**-11)
    if kind == "faint":  # beside the hot channel, less than half a step of two bytes
        cells[:] = 2.0**-16
    if kind == "one hot":
        cells[:] = 0
    if kind in ("drowned", "faint", "one hot"):
        cells[np.arange(count), rng.integers(0, channels, count)] = 1
    return cells


KINDS = [
    *("noise", "subnormal", "large", "constant", "all magnitudes"),
    *("two levels", "drowned", "faint", "one hot"),
]


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Draw feature maps and queries, of cells of one kind or of several."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.sampled_from([3, 8, 16, 48, 512]))

    def cells(*shape: int) -> np.ndarray:
        kinds, count = (
            draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3)),
            np.prod(shape),
        )
        every = np.stack([cells_of(kind, count, channels, rng) for kind in kinds])
        return every[rng.integers(0, len(kinds), count), np.arange(count)].reshape(*shape, channels)

    grid = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    features = cells(draw(st.integers(1, 5)), *grid)
    features[rng.random(features.shape[:3]) < 0.1] = 0
    if draw(st.booleans()):
        features = np.abs(features)
    scale = draw(st.sampled_from([None, 1.0, 1e-14, 1e12]))
    features = features.astype(np.float16) if scale is None else (features * scale).astype("f4")
    features[squared_norms(features) < 2.0**-100] = 0  # as `vfs_ops.caches.values.to_stored` does
    queries = []
    for _ in range(draw(st.integers(1, 3))):
        high, wide = draw(st.integers(1, grid[0])), draw(st.integers(1, grid[1]))
        weights = (rng.random((high, wide)) ** draw(st.sampled_from([0, 1, 8]))).astype(np.float32)
        weights[rng.random((high, wide)) < draw(st.sampled_from([0.0, 0.4]))] = 0
        weights[0, 0] = 1
        query = features[0, :high, :wide].astype(np.float64)
        if draw(st.booleans()):
            query = cells(high, wide)
        query[0, 0, 0] = query[0, 0, 0] or 1
        queries.append((weights, query.astype(np.float32)))
    return features, queries


def oracle(weights: np.ndarray, query: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return the score of every window in float64, straight from its formula, (row, y, x)."""
    squared, vectors = weights.astype(np.float64) ** 2, query.astype(np.float64)
    (high, wide), stored = weights.shape, features.astype(np.float64)
    down, across = features.shape[1] - high + 1, features.shape[2] - wide + 1
    norms, product, norm = (stored**2).sum(axis=3), 0.0, 0.0
    for y, x in np.ndindex(high, wide):
        here = np.s_[:, y : y + down, x : x + across]
        product = product + squared[y, x] * (stored[here] @ vectors[y, x])
        norm = norm + squared[y, x] * norms[here]
    length = np.sqrt(norm) * np.sqrt((squared[..., None] * vectors**2).sum())
    return np.divide(product, length, out=np.zeros_like(product), where=length > 0)


def of_float_pass(batch: Batch, features: np.ndarray) -> Iterator[Window]:
    """Yield what the pass over stored values says."""
    block, rows = block_of(features, "stored"), np.arange(len(features))
    errors = float_errors(batch, rounding_of_factors(*block.kind))
    for group, part, fast in float_scores(batch, block.features, block.norms, rows, Scratch()):
        for query, scores in zip(group.queries.tolist(), fast.permute(0, 3, 1, 2), strict=True):
            found = scores.numpy().astype(np.float64)
            yield query, rows[part], found - errors[query], found + errors[query]


def of_compact_pass(batch: Batch, features: np.ndarray) -> Iterator[Window]:
    """Yield what the pass over the compact form says; the opposite query has opposite scores."""
    errors, start = compact_errors(batch), 0
    for tile in block_of(features, "compact").tiles:
        rows = np.arange(start, start + len(tile.share))
        start += len(rows)
        for group, fast, share in compact_scores(batch, tile, Scratch()):
            windows = fast.permute(1, 2, 0, 3).flatten(0, 1).numpy()
            high, low = (
                np.stack([errors.bounds(group.queries, share.numpy(), one) for one in some])
                for some in (windows, -windows)
            )
            for place, query in enumerate(group.queries.tolist()):
                shape = len(rows), *group.offsets
                yield query, rows, -low[:, place].T.reshape(shape), high[:, place].T.reshape(shape)


def of_single_windows(batch: Batch, features: np.ndarray) -> Iterator[Window]:
    """Yield what is said of windows that are taken out and scored by themselves."""
    block, scratch = block_of(features, "stored"), Scratch()
    for number, query in enumerate(batch.singles):
        pattern, error = query.patterns[0], window_errors(query)
        down, across = pattern.offsets(query.grid)
        found = np.empty((len(features), down, across))
        for y, x in np.ndindex(down, across):
            at = pattern.cells + np.array([y, x])
            cells = block.features[:, at[:, 0], at[:, 1]]
            norms = block.norms[:, at[:, 0], at[:, 1]]
            found[:, y, x] = candidates._float_scores_of_windows(query, cells, norms, scratch)
        yield number, np.arange(len(features)), found - error, found + error


PASSES = {
    "compiled": of_float_pass,
    "torch, by cells": of_float_pass,
    "torch, by windows": of_float_pass,
    "compact, by cells": of_compact_pass,
    "compact, by rows": of_compact_pass,
    "compact, by windows": of_compact_pass,
    "single windows": of_single_windows,
}


def cut(patch: pytest.MonkeyPatch, way: str) -> None:
    """Let every pass go the way that is asked for, several rows and products at a time."""
    if way.startswith("torch"):
        patch.setattr(float_pass, "loop_registers", lambda *_: None)
    patch.setattr(batches, "_NARROW_COLUMNS", 0)
    patch.setattr(batches, "FEW_WINDOWS", 16 if way.endswith("windows") else 0)
    if way.endswith("rows"):
        patch.setattr(batches, "COLUMNS_AT_ONCE", 1)  # each query's products alone
        patch.setattr(compact_pass, "_SIDEWAYS_COLUMNS", 1)
    patch.setattr(compact, "_CELLS_AT_ONCE", 16)
    patch.setattr(compact, "_LEAST_ROWS", 2)


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_every_window_scores_within_the_bound_of_every_pass(case: Any) -> None:
    features, queries = case
    exact = [oracle(*query, features) for query in queries]
    patterns = [Pattern.of(*query) for query in queries]
    for way, proposed in PASSES.items():
        seen = 0
        with pytest.MonkeyPatch.context() as patch:
            cut(patch, way)
            batch = Batch.of(patterns, features.shape[1:3])
            for query, rows, low, high in proposed(batch, features):
                assert (low <= exact[query][rows]).all(), way
                assert (exact[query][rows] <= high).all(), way
                seen += low.size
        assert seen == sum(one.size for one in exact), way
    numbers, images = np.arange(len(features)), Images.of(parts_of(features, [2]), 0)
    for query, scores in zip(batch.singles, exact, strict=True):
        each = scores.reshape(len(features), -1)
        window = each.argmax(axis=1).astype(np.int32)
        best = images.windows(query, numbers, window, each.max(axis=1), Scratch())
        assert sorted(best.group) == numbers.tolist()  # none that reaches what is needed is lost


def test_the_bounds_hold_where_each_sum_rounds_the_same_way() -> None:
    """The first cell's product is large, and each of the others' is lost beside it."""
    features = np.zeros((8, 7, 7, 8), np.float32)
    features[..., 0] = 2.0**-12.5 * (1 - 2.0**-11)
    features[:, 0, 0, 0] = 1
    pattern = Pattern.of(np.ones((7, 7), np.float32), features[0])
    for way, proposed in PASSES.items():
        with pytest.MonkeyPatch.context() as patch:
            cut(patch, way)
            for _, _, low, high in proposed(Batch.of([pattern], (7, 7)), features):
                assert ((low > 1 - 1e-4) & (low < 1)).all(), way
                assert ((high >= 1) & (high < 1 + 1e-4)).all(), way


def test_the_bounds_hold_where_products_underflow() -> None:
    """All that has a norm lies under a weight so small that its products are subnormal."""
    rng = np.random.default_rng(0)
    query, features = rng.random((1, 2, 16)), rng.random((8, 1, 2, 16)) * 2.0**-50
    query[:, 0], features[:, :, 0] = 0, 0
    weights = np.array([[1, 1e-25]], np.float32)
    features, pattern = features.astype(np.float32), Pattern.of(weights, query)
    exact = oracle(weights, query, features)
    for way, proposed in PASSES.items():
        with pytest.MonkeyPatch.context() as patch:
            cut(patch, way)
            for _, rows, low, high in proposed(Batch.of([pattern], (1, 2)), features):
                assert (low <= exact[rows]).all(), way
                assert (exact[rows] <= high).all(), way


@pytest.mark.skipif(registers() is None, reason="this processor does not convert float16")
def test_the_compiled_loop_takes_what_the_property_draws() -> None:
    batch = Batch.of([Pattern.of(np.ones((1, 1), np.float32), np.ones((1, 1, 48)))], (4, 4))
    features = torch.zeros((1, 4, 4, 48), dtype=torch.float16)
    assert loop_registers(batch, features) is not None
