from __future__ import annotations

import pickle

import numpy as np
import pytest

from vfs_ops.errors import QueryError
from vfs_ops.kernel.batches import LOW_STEPS, Batch, batch_bytes
from vfs_ops.kernel.exact import Pattern


def pattern(size: int, channels: int = 8, seed: int = 0) -> Pattern:
    rng = np.random.default_rng(seed)
    query = rng.standard_normal((size, size, channels)).astype(np.float32)
    return Pattern.of(np.ones((size, size), np.float32), query)


def test_queries_of_one_shape_share_columns_and_masks() -> None:
    batch = Batch.of([pattern(2, seed=seed) for seed in range(3)] + [pattern(1)], (7, 7))
    [bundle] = batch.bundles
    assert [group.queries.tolist() for group in bundle.groups] == [[0, 1, 2], [3]]
    assert [group.masks for group in bundle.groups] == [(0, 0, 0), (1,)]
    assert bundle.columns.shape == (3 * 4 + 1, 8)
    assert bundle.parts.shape == (2 * 13, 8)
    np.testing.assert_array_equal(
        bundle.columns[1].numpy(), batch.patterns[1].products[0].astype(np.float32)
    )


def test_many_columns_are_several_products() -> None:
    batch = Batch.of([pattern(3, seed=seed) for seed in range(100)], (7, 7))
    widths = [len(bundle.columns) for bundle in batch.bundles]
    assert sum(widths) == 900
    assert max(widths) <= 288
    assert sorted(np.concatenate([group.queries for group in batch.groups])) == list(range(100))


def test_few_offsets_are_multiplied_directly() -> None:
    def direct(size: int, grid: int) -> bool:
        return next(iter(Batch.of([pattern(size)], (grid, grid)).groups)).direct

    assert [size for size in range(1, 8) if direct(size, 7)] == [6, 7]
    assert direct(14, 14)
    assert not direct(7, 14)


def test_parts_say_what_they_leave_out() -> None:
    rng = np.random.default_rng(0)
    weights = np.array([[1, 0.01], [0, 1e-4]], np.float32)
    query = Pattern.of(weights, rng.standard_normal((2, 2, 64)).astype(np.float32))
    [group] = Batch.of([query], (5, 5)).groups
    high, low = group.parts[:, :, 0].numpy().astype(np.float64)
    kept = group.steps[:, :1].numpy().astype(np.float64) * (high + low / LOW_STEPS)
    difference = (query.products - kept) / np.sqrt(query.squared)[:, None]
    assert group.lost[0] == pytest.approx(np.sqrt((difference**2).sum()), rel=1e-9)
    assert group.lost[0] < 1e-4


def test_a_batch_can_be_sent_to_another_process() -> None:
    batch = pickle.loads(pickle.dumps(Batch.of([pattern(2), pattern(5)], (7, 7))))
    assert len(batch) == len(batch.singles) == 2


def test_mixed_channels_and_no_query_are_refused() -> None:
    with pytest.raises(QueryError, match="8, 9 channels"):
        Batch.of([pattern(1), pattern(1, 9)], (2, 2))
    with pytest.raises(QueryError, match="no query"):
        Batch.of([], (2, 2))


def test_a_region_larger_than_the_grid_is_refused() -> None:
    pattern = Pattern.of(np.ones((3, 1), np.float32), np.ones((3, 1, 2), np.float32))
    with pytest.raises(QueryError, match=r"3 × 1 cells.*2 × 2"):
        Batch.of([pattern], (2, 2))


@pytest.mark.parametrize("sizes", [(3,), (3, 3, 1, 7, 7), (6,) * 30])
def test_queries_take_no_more_memory_than_is_said(sizes: tuple[int, ...]) -> None:
    patterns = [pattern(size, 64, seed) for seed, size in enumerate(sizes)]
    batch = Batch.of(patterns, (7, 7))
    made, held = {id(batch): batch, **{id(one): one for one in batch.singles}}, 0
    for one in made.values():
        tables = [(taps.columns, taps.pieces, taps.table) for _, taps in one.taps]
        taken = [array.nbytes for table in tables for array in table]
        taken += [group.columns.nbytes + group.parts.nbytes for group in one.groups]
        taken += [bundle.columns.nbytes + bundle.parts.nbytes for bundle in one.bundles]
        held += sum(taken)
    held += sum(one.products.nbytes for one in patterns)
    assert held <= batch_bytes(patterns, (7, 7)) <= 2 * held
