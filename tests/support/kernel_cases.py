"""Feature maps, queries and searches for tests of the kernel."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

from vfs_ops.caches.values import squared_norms
from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Block, Part
from vfs_ops.kernel.compact import tiles_of
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.scoring import best_of_parts
from vfs_ops.kernel.topk import Best

FORMS = ["stored", "compact", "torch"]
"""Stored values, by the compiled loop where channels fill registers; the compact form, or torch,
for every query. The fixture `one_pass` lets them choose the pass, not what is faster."""


def block_of(features: np.ndarray, form: str) -> Block:
    """Return features as a block, in the form "compact", or else as stored."""
    block = Block.of(features, squared_norms(features))
    if form == "compact":  # whatever this machine is fast at
        return dataclasses.replace(block, tiles=tiles_of(block.features, block.norms))
    return block


def parts_of(
    features: np.ndarray,
    cuts: list[int],
    form: str = "stored",
    *,
    groups: np.ndarray | None = None,
    allowed: np.ndarray | None = None,
) -> list[Part]:
    """Cut images into blocks, in the order of `cuts`."""
    count = len(features)
    groups = np.arange(count) if groups is None else groups
    allowed = np.ones(count, bool) if allowed is None else allowed
    edges = [0, *sorted(min(cut, count) for cut in cuts), count]
    return [
        Part(
            block_of(features[start:stop], form),
            np.arange(start, stop),
            groups[start:stop],
            allowed[..., start:stop],
        )
        for start, stop in pairwise(edges)
        if start < stop
    ]


def find(features: np.ndarray, patterns: list[Pattern], k: int, form: str, **others: Any):
    """Search all images in one block."""
    batch = Batch.of(patterns, features.shape[1:3])
    return best_of_parts(batch, parts_of(features, [], form, **others), k)


def same(one: Best, other: Best) -> None:
    """Both are equal, bit by bit."""
    for name in ("score", "image", "y", "x", "group"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Draw feature maps with duplicates, zeros and odd magnitudes, and queries of mixed shapes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    grid = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    images, channels = draw(st.integers(1, 12)), draw(st.sampled_from([2, 3, 7, 12, 16, 32]))
    features = rng.standard_normal((images, *grid, channels))
    if draw(st.booleans()):
        features = np.maximum(features, 0)
    features[rng.random((images, *grid)) < 0.2] = 0
    scale = draw(st.sampled_from([1.0, 1e-4, 1e-14, 1e16] if dtype == np.float32 else [1.0, 1e-5]))
    features *= scale * 10 ** rng.uniform(-2, 2, (images, 1, 1, 1))
    features = features[rng.integers(0, images, images)].astype(dtype)
    features[squared_norms(features) < 2.0**-100] = 0  # as `vfs_ops.caches.values.to_stored` does
    queries = []
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, grid[0])), draw(st.integers(1, grid[1]))
        weights = rng.random(size).astype(np.float32)
        weights[rng.random(size) < draw(st.sampled_from([0.0, 0.5]))] = 0
        weights *= draw(st.sampled_from([1, 1, 1e-3]))
        weights[0, 0] = 1
        query = rng.standard_normal((*size, channels)).astype(np.float32) * scale
        if draw(st.booleans()):
            query = features[0, : size[0], : size[1]].astype(np.float32)
        query[0, 0, 0] += scale
        queries.append((weights, query.astype(np.float32)))
    allowed = rng.random((len(queries), images)) < draw(st.sampled_from([1.0, 0.7]))
    allowed[:, rng.integers(images)] = True
    return {
        "features": features,
        "queries": queries,
        "k": draw(st.integers(1, 15)),
        "allowed": allowed,
        "groups": rng.integers(0, draw(st.sampled_from([1, 3, 100])), images),
        "cuts": draw(st.lists(st.integers(1, 12), max_size=3)),
    }


def close_calls() -> tuple[Pattern, np.ndarray]:
    """Return a query, and images whose scores differ by less than float32 can tell."""
    rng = np.random.default_rng(3)
    query = rng.random((3, 3, 64)).astype(np.float32)
    features = np.empty((300, 7, 7, 64), np.float32)
    features[:] = rng.random((7, 7, 64)) * 0.01
    features[:, 2:5, 1:4] = query
    features[np.arange(300), 2, 1, rng.integers(0, 64, 300)] *= 1 + 2e-4 * rng.random(300)
    features[:, 4:7, 4:7] = features[:, 2:5, 1:4][rng.permutation(300)]
    return Pattern.of(np.ones((3, 3), np.float32), query), features
