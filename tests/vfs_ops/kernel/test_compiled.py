from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vfs_ops.kernel import compiled
from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.compiled import Registers, add_up, registers, scratch_values
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.float_pass import loop_registers
from vfs_ops.kernel.taps import TAPS

FENCE = 1000
WIDTHS = [Registers(8, 2), Registers(16, 4)]


def queries(rng: np.random.Generator, channels: int) -> list[Pattern]:
    """Return queries of several shapes, two of one, and one with a hole."""
    patterns = [
        Pattern.of(rng.random(size).astype(np.float32), rng.standard_normal((*size, channels)))
        for size in [(3, 3), (3, 3), (1, 1), (4, 5), (2, 1)]
    ]
    hole = np.array([[1, 0], [0.5, 0.25]], np.float32)
    return [*patterns, Pattern.of(hole, rng.standard_normal((2, 2, channels)))]


def fenced(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an array of NaN, and the memory about it, where nobody has any business."""
    size = int(np.prod(shape))
    memory = np.full(size + 2 * FENCE, np.nan, np.float32)
    return memory[FENCE : FENCE + size].reshape(shape), memory


def sums_of_windows(pattern: Pattern, features: np.ndarray) -> np.ndarray:
    """Add up the products of all windows in float64, shape (window, image)."""
    down, across = pattern.offsets(features.shape[1:3])
    sums = np.zeros((down, across, len(features)))
    for (y, x), column in zip(pattern.cells, pattern.products, strict=True):
        cells = features[:, y : y + down, x : x + across].astype(np.float64)
        sums += (cells @ column).transpose(1, 2, 0)
    return sums.reshape(down * across, len(features))


@pytest.mark.skipif(registers() is None, reason="this processor does not convert float16")
@pytest.mark.parametrize("held", WIDTHS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("images", [0, 1, 3, 11])
def test_sums_of_all_windows(held: Registers, dtype: type, images: int) -> None:
    if held.lanes > registers().lanes:
        pytest.skip("this processor has shorter registers")
    rng = np.random.default_rng(images)
    memory = np.full((images + 4, 4, 5, 48), np.nan, dtype)  # what is beside it may not be read
    features = memory[1:-1]
    features[:] = rng.standard_normal(features.shape)
    features[0, 0, 0, 0] = 2.0**-24  # below float16's normal range
    rows = rng.permutation(images + 2)[:images]
    patterns = queries(rng, 48)
    batch = Batch.of(patterns, (4, 5))
    found = 0
    for groups, taps in batch.taps:
        (scratch, about_scratch), (sums, about_sums) = (
            fenced(scratch_values(taps, held)),
            fenced(taps.sums, images),
        )
        columns, _ = fenced(*taps.columns.shape)
        columns[:] = taps.columns
        add_up(features, rows, replace(taps, columns=columns), held, scratch, sums)
        for written in (about_scratch, about_sums):
            assert np.isnan(written[:FENCE]).all()
            assert np.isnan(written[-FENCE:]).all()
        start = 0
        for number in np.concatenate([group.queries for group in groups]):
            expected = sums_of_windows(patterns[number], features[rows])
            np.testing.assert_allclose(sums[start : start + len(expected)], expected, atol=1e-5)
            start += len(expected)
            found += 1
        assert start == taps.sums
    assert found == len(patterns)


@pytest.mark.parametrize(
    ("features", "held"),
    [
        ({"f16c", "fma", "avx512f"}, Registers(16, 4)),
        ({"f16c", "fma", "avx2"}, Registers(8, 2)),
        ({"avx", "fma"}, None),
        ({"neon", "fullfp16"}, None),
    ],
)
def test_processors_without_an_instruction_do_without_the_loop(
    features: set[str], held: Registers | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "has", features.__contains__)
    assert registers.__wrapped__() == held


def test_only_products_that_a_window_needs_are_computed() -> None:
    pattern = Pattern.of(np.ones((3, 3), np.float32), np.ones((3, 3, 16), np.float32))
    [(_, taps)] = Batch.of([pattern], (7, 7)).taps
    assert len(taps.table) == 25 * 9
    assert taps.pieces[:, 1].sum() == 25 * 9
    assert taps.pieces[:, 1].max() <= TAPS
    assert (np.diff(taps.pieces[:, 0]) >= 0).all()
    np.testing.assert_array_equal(
        taps.pieces[:, 2], np.cumsum(taps.pieces[:, 1]) - taps.pieces[:, 1]
    )
    assert len(np.unique(taps.table, axis=0)) == len(taps.table)


def test_batches_of_too_many_sums_are_for_torch() -> None:
    features = torch.zeros((1, 28, 28, 16), dtype=torch.float16)
    pattern = Pattern.of(np.ones((1, 1), np.float32), np.ones((1, 1, 16), np.float32))
    few, many = (Batch.of([pattern] * queries, (28, 28)) for queries in (1, 100))
    assert [batch.sums_at_once for batch in (few, many)] == [784, 78_400]
    assert few.sums_at_once == few.taps[0][1].sums
    assert loop_registers(few, features) == registers()
    assert loop_registers(many, features) is None
