from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_cases import block_of

from vfs_ops.kernel import float_pass
from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Scratch
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.float_pass import float_errors, float_scores, rounding_of_factors
from vfs_ops.kernel.scoring import all_scores
from vfs_ops.kernel.windows import WindowNorms


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


@pytest.mark.parametrize("way", ["compiled", "torch"])
def test_masks_by_the_dozen_take_no_more_than_is_promised(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_BLOCK_BYTES", "_NORMS_BYTES"):
        monkeypatch.setattr(float_pass, name, 1 << 18)
    if way == "torch":
        monkeypatch.setattr(float_pass, "loop_registers", lambda *_: None)
    held: list[WindowNorms] = []

    class Watched(WindowNorms):
        def __init__(self, batch: Batch, norms: torch.Tensor) -> None:
            super().__init__(batch, norms)
            held[:] = [self]

    monkeypatch.setattr(float_pass, "WindowNorms", Watched)
    rng, scratch, taken, most = np.random.default_rng(0), Scratch(), 0, 0
    masks = rng.random((40, 3, 3)).astype(np.float32) + 0.1
    features = rng.standard_normal((400, 7, 7, 32)).astype(np.float16)
    patterns = [Pattern.of(mask, features[0, :3, :3]) for mask in masks]
    batch, block = Batch.of(patterns, (7, 7)), block_of(features, "stored")
    for _ in float_scores(batch, block.features, block.norms, np.arange(400), scratch):
        known = [*held[0]._sums._known.values(), *held[0]._known.values()]
        norms = sum(tensor.nbytes for tensor in known)
        taken = max(taken, scratch.nbytes + held[0]._sums._values.nbytes + norms)
        most = max(most, norms)
    assert taken <= float_pass.float_pass_bytes((7, 7), 32, len(patterns)) < 16 * taken
    assert way == "torch" or most <= 1 << 18


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
