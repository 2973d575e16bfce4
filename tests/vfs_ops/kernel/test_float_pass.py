from __future__ import annotations

import numpy as np
import torch
from kernel_cases import block_of

from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Scratch
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.float_pass import float_errors, float_scores, rounding_of_factors
from vfs_ops.kernel.scoring import all_scores


def errors_of(features: np.ndarray, patterns: list[Pattern]) -> list[tuple[float, float]]:
    """Return the largest error of each query's scores, and its bound."""
    batch, block = Batch.of(patterns, features.shape[1:3]), block_of(features, "stored")
    rounding = rounding_of_factors(features.shape[3], torch.device("cpu"))
    bounds, largest = float_errors(batch, rounding), np.zeros(len(batch))
    rows = np.arange(len(features))
    for group, part, fast in float_scores(batch, block.features, block.norms, rows, Scratch()):
        for number, query in enumerate(group.queries):
            exact = all_scores(patterns[query], features[part])
            difference = np.abs(fast[number].permute(2, 0, 1).numpy() - exact).max()
            largest[query] = max(largest[query], difference)
    return list(zip(largest.tolist(), bounds.tolist(), strict=True))


def test_the_bound_holds_where_sums_round_the_worst() -> None:
    """One large product, then many that each round the same way beside it."""
    features = np.full((8, 1, 1, 4096), 2.0**-13 * (1 - 2.0**-11), np.float32)
    features[..., 0] = 1
    features[4:, ..., 1:] *= -1
    [(error, bound)] = errors_of(features, [Pattern.of(np.ones((1, 1), np.float32), features[0])])
    assert 0 < error <= bound


def test_faint_weights_widen_the_bound() -> None:
    features = np.random.default_rng(0).standard_normal((4, 2, 2, 8)).astype(np.float32)
    faint = np.array([[1, 1e-30]], np.float32)
    patterns = [Pattern.of(weights, features[0, :1]) for weights in (np.ones_like(faint), faint)]
    (_, plain), (error, wide) = errors_of(features, patterns)
    assert plain < 1e-5
    assert wide > 1e3
    assert error <= wide


def test_rounded_factors_are_noticed() -> None:
    assert rounding_of_factors(64, torch.device("cpu")) == 0
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        left = torch.full((256, 64), 1 + 2.0**-12)
        rounded = float((left @ torch.ones(64, 16))[0, 0]) != 64 * (1 + 2.0**-12)
        assert (rounding_of_factors(64, torch.device("cpu")) > 0) == rounded
        features = np.random.default_rng(0).random((30, 3, 3, 64)).astype(np.float32)
        pattern = Pattern.of(np.ones((2, 2), np.float32), features[0, :2, :2])
        [(error, bound)] = errors_of(features, [pattern])
        assert error <= bound
    finally:
        torch.set_float32_matmul_precision(before)
