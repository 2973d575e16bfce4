from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import naive_score, naive_search

from vfs_ops import scoring
from vfs_ops.errors import QueryError
from vfs_ops.exact import Pattern, exact_scores
from vfs_ops.scoring import Kernel, best_of_block
from vfs_ops.topk import Best, best_of
from vfs_ops.values import squared_norms

STRATEGIES = {"cells": 10**9, "windows": 0}


def run(
    kernel: Kernel,
    features: np.ndarray,
    k: int,
    rows: list[int] | None = None,
    groups: list[int] | None = None,
    **others: Any,
) -> Best:
    numbers = np.arange(len(features))
    return best_of_block(
        kernel,
        features,
        squared_norms(features),
        numbers if rows is None else np.array(rows, np.intp),
        numbers,
        numbers if groups is None else np.array(groups),
        k,
        **others,
    )


def same(one: Best, other: Best) -> None:
    for name in ("score", "image", "y", "x", "group"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grid = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    size = draw(st.integers(1, grid[0])), draw(st.integers(1, grid[1]))
    images, channels = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    features = rng.standard_normal((images, *grid, channels)).astype(np.float32)
    if draw(st.booleans()):
        features = np.maximum(features, 0)
    features[rng.random((images, *grid)) < 0.2] = 0
    features = features[rng.integers(0, images, images)]  # duplicate images
    weights = rng.random(size).astype(np.float32)
    weights[rng.random(size) < draw(st.sampled_from([0.0, 0.5]))] = 0
    weights[0, 0] = 1
    query = rng.standard_normal((*size, channels)).astype(np.float32)
    if draw(st.booleans()):
        query = features[0, : size[0], : size[1]]
    query[0, 0, 0] += 1
    return {
        "weights": weights,
        "query": query,
        "features": features.astype(draw(st.sampled_from([np.float16, np.float32]))),
        "k": draw(st.integers(1, 15)),
        "rows": sorted(draw(st.sets(st.integers(0, images - 1), min_size=1))),
        "groups": rng.integers(0, draw(st.sampled_from([1, 3, 100])), images).tolist(),
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=150, deadline=None)
@given(problem=problems())
def test_hits_are_those_of_a_triple_loop(strategy: str, problem: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_DIRECT_COST", STRATEGIES[strategy])
        patch.setattr(scoring, "_BLOCK_BYTES", 1024)
        patch.setattr(scoring, "_PRODUCT_BYTES", 1024)
        patch.setattr(scoring, "_COLUMNS_AT_ONCE", 2)
        weights, query, features = problem["weights"], problem["query"], problem["features"]
        kernel = Kernel.of(Pattern.of(weights, query), features.shape[1:3])
        assert kernel.direct == (strategy == "windows")
        found = run(kernel, features, problem["k"], problem["rows"], problem["groups"])
    expected = naive_search(
        weights, query, features, problem["k"], rows=problem["rows"], groups=problem["groups"]
    )
    assert len(found) == len(expected)
    high, wide = weights.shape
    for number, (score, image, y, x) in enumerate(expected):
        assert found.score[number] == pytest.approx(score, abs=1e-12)
        place = found.image[number], found.y[number], found.x[number]
        if place != (image, y, x):  # only where the two ways of summing round a tie differently
            cells = features[place[0], place[1] : place[1] + high, place[2] : place[2] + wide]
            assert naive_score(weights, query, cells) == pytest.approx(score, abs=1e-12)


def test_ties_go_to_the_lower_image_then_y_then_x() -> None:
    features = np.zeros((6, 4, 4, 3), np.float16)
    for image, y, x in [(5, 0, 0), (2, 2, 1), (2, 1, 3), (2, 1, 2), (4, 3, 3)]:
        features[image, y, x] = [1, 2, 3]
    kernel = Kernel.of(Pattern.of(np.ones((1, 1), np.float32), features[5, :1, :1]), (4, 4))
    found = run(kernel, features, 4)
    places = list(zip(found.image.tolist(), found.y.tolist(), found.x.tolist(), strict=True))
    assert places == [(2, 1, 2), (4, 3, 3), (5, 0, 0), (0, 0, 0)]
    assert found.score[3] == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("scale", [1e-14, 1.0, 1e17])
@pytest.mark.parametrize(("size", "channels"), [((3, 3), 512), ((5, 4), 7), ((1, 1), 2048)])
def test_the_fast_pass_keeps_its_bound(
    strategy: str,
    scale: float,
    size: tuple[int, int],
    channels: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "_DIRECT_COST", STRATEGIES[strategy])
    rng = np.random.default_rng(0)
    features = (np.abs(rng.standard_normal((40, 5, 5, channels))) * scale).astype(np.float32)
    weights = rng.random(size).astype(np.float32)
    pattern = Pattern.of(weights, (rng.random((*size, channels)) * scale).astype(np.float32))
    kernel = Kernel.of(pattern, (5, 5))
    fast = scoring._fast_scores(kernel, features, squared_norms(features), np.arange(40))
    windows = np.nonzero(np.ones_like(fast))
    exact = exact_scores(pattern, features, *windows).reshape(fast.shape)
    assert np.abs(fast - exact).max() <= kernel.error
    assert kernel.error < 1e-2


@pytest.fixture
def close_calls() -> tuple[Pattern, np.ndarray]:
    """Images whose scores differ by less than float32 can tell."""
    rng = np.random.default_rng(3)
    query = rng.random((3, 3, 64)).astype(np.float32)
    features = np.empty((300, 7, 7, 64), np.float32)
    features[:] = rng.random((7, 7, 64)) * 0.01
    features[:, 2:5, 1:4] = query
    features[np.arange(300), 2, 1, rng.integers(0, 64, 300)] *= 1 + 2e-4 * rng.random(300)
    features[:, 4:7, 4:7] = features[:, 2:5, 1:4][rng.permutation(300)]
    return Pattern.of(np.ones((3, 3), np.float32), query), features


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_scores_closer_than_float32_can_tell_are_ranked_in_float64(
    strategy: str, close_calls: tuple[Pattern, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_DIRECT_COST", STRATEGIES[strategy])
    pattern, features = close_calls
    windows = np.nonzero(np.ones((300, 5, 5), bool))
    exact = exact_scores(pattern, features, *windows)
    order = np.lexsort((*windows[::-1], -exact))
    places = np.stack(windows, axis=1)[order]
    _, first = np.unique(places[:, 0], return_index=True)
    expected = places[np.sort(first)[:20]]
    found = run(Kernel.of(pattern, (7, 7)), features, 20)
    np.testing.assert_array_equal(np.stack([found.image, found.y, found.x], axis=1), expected)
    assert np.ptp(found.score) < 1e-8


def test_hits_are_the_same_however_the_images_are_cut(
    close_calls: tuple[Pattern, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern, features = close_calls
    kernel = Kernel.of(pattern, (7, 7))
    groups = np.arange(300) // 2
    sq_norm = squared_norms(features)
    whole = run(kernel, features, 7, groups=groups.tolist())
    rng = np.random.default_rng(0)
    for strategy, cost in STRATEGIES.items():
        monkeypatch.setattr(scoring, "_DIRECT_COST", cost)
        kernel = Kernel.of(pattern, (7, 7))
        assert kernel.direct == (strategy == "windows")
        for block_bytes in (1, 100_000, 10**8):
            monkeypatch.setattr(scoring, "_BLOCK_BYTES", block_bytes)
            monkeypatch.setattr(scoring, "_PRODUCT_BYTES", 3 * block_bytes)
            cuts = [0, *sorted(rng.choice(np.arange(1, 300), 5, replace=False).tolist()), 300]
            running = Best.empty()
            for number in rng.permutation(len(cuts) - 1):
                part = slice(cuts[number], cuts[number + 1])
                block = features[part]
                best = best_of_block(
                    kernel,
                    block,
                    sq_norm[part],
                    np.arange(len(block)),
                    np.arange(300)[part],
                    groups[part],
                    7,
                    running.floor(7),
                )
                running = best_of([running, best], 7)
            same(running, whole)


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 100, 512, 9000])
@pytest.mark.parametrize("cells", [(1, 1), (3, 2)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_score_has_the_same_bits_whatever_is_scored_with_it(
    channels: int, cells: tuple[int, int], dtype: type
) -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((5, 4, 4, channels)).astype(dtype)
    query = rng.standard_normal((*cells, channels)).astype(np.float32)
    pattern = Pattern.of(np.ones(cells, np.float32), query)
    windows = np.nonzero(np.ones((5, *pattern.offsets((4, 4)))))
    together = exact_scores(pattern, features, *windows)
    alone = [
        exact_scores(pattern, features, *(axis[[n]] for axis in windows))[0] for n in range(20)
    ]
    np.testing.assert_array_equal(together[:20], alone)
    other = np.ascontiguousarray(features[::-1])
    moved = exact_scores(pattern, other, 4 - windows[0], *windows[1:])
    np.testing.assert_array_equal(together, moved)


def test_a_region_is_exactly_as_similar_to_itself_as_can_be() -> None:
    features = np.random.default_rng(2).standard_normal((9, 5, 5, 33)).astype(np.float16)
    pattern = Pattern.of(np.ones((2, 2), np.float32), features[4, 1:3, 2:4])
    found = run(Kernel.of(pattern, (5, 5)), features, 1)
    assert (found.image[0], found.y[0], found.x[0]) == (4, 1, 2)
    assert 1 - 1e-15 <= found.score[0] <= 1


def test_torch_may_round_factors_and_hits_stay_the_same(
    close_calls: tuple[Pattern, np.ndarray],
) -> None:
    pattern, features = close_calls
    expected = run(Kernel.of(pattern, (7, 7)), features, 20)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        kernel = Kernel.of(pattern, (7, 7))
        found = run(kernel, features, 20)
        fast = scoring._fast_scores(kernel, features, squared_norms(features), np.arange(300))
    finally:
        torch.set_float32_matmul_precision(before)
    windows = np.nonzero(np.ones_like(fast))
    exact = exact_scores(pattern, features, *windows).reshape(fast.shape)
    assert np.abs(fast - exact).max() <= kernel.error
    same(found, expected)


def test_autocast_and_other_defaults_of_torch_change_nothing(
    close_calls: tuple[Pattern, np.ndarray],
) -> None:
    pattern, features = close_calls
    expected = run(Kernel.of(pattern, (7, 7)), features, 20)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = run(Kernel.of(pattern, (7, 7)), features, 20)
    finally:
        torch.set_default_dtype(torch.float32)
    same(found, expected)


def test_read_only_memory_is_read(close_calls: tuple[Pattern, np.ndarray]) -> None:
    pattern, features = close_calls
    expected = run(Kernel.of(pattern, (7, 7)), features, 3)
    features.setflags(write=False)
    same(run(Kernel.of(pattern, (7, 7)), features, 3), expected)


def test_no_row_gives_no_hit(close_calls: tuple[Pattern, np.ndarray]) -> None:
    pattern, features = close_calls
    assert len(run(Kernel.of(pattern, (7, 7)), features, 3, rows=[])) == 0


def test_few_offsets_are_multiplied_directly() -> None:
    def direct(size: int, grid: int) -> bool:
        query = np.ones((size, size, 8), np.float32)
        return Kernel.of(Pattern.of(np.ones((size, size), np.float32), query), (grid, grid)).direct

    assert [size for size in range(1, 8) if direct(size, 7)] == [7]
    assert direct(13, 14)
    assert not direct(7, 14)


@pytest.mark.parametrize(
    ("value", "message"), [(0.0, "are zero"), (np.nan, "not finite"), (np.inf, "not finite")]
)
def test_a_query_without_a_direction_is_refused(value: float, message: str) -> None:
    query = np.ones((2, 2, 3), np.float32)
    query[0] = value
    weights = np.array([[1, 1], [0, 0]], np.float32)
    with pytest.raises(QueryError, match=message):
        Pattern.of(weights, query)


def test_a_region_larger_than_the_grid_is_refused() -> None:
    pattern = Pattern.of(np.ones((3, 1), np.float32), np.ones((3, 1, 2), np.float32))
    with pytest.raises(QueryError, match=r"3 × 1 cells.*2 × 2"):
        Kernel.of(pattern, (2, 2))


def test_copies_of_an_image_are_not_all_scored_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features = np.repeat(rng.standard_normal((1, 2, 2, 5)).astype(np.float32), 300, axis=0)
    features[250] = features[0] * 2  # as similar, not the same
    kernel = Kernel.of(Pattern.of(np.ones((1, 1), np.float32), features[0, :1, :1]), (2, 2))
    scored = []

    def counting(pattern: Pattern, features: np.ndarray, row: np.ndarray, *at: Any) -> np.ndarray:
        scored.extend(row.tolist())
        return exact_scores(pattern, features, row, *at)

    monkeypatch.setattr(scoring, "exact_scores", counting)
    best = run(kernel, features, 4)
    assert best.image.tolist() == [0, 1, 2, 3]
    assert scored == [0, 1, 2, 3, 250]
    scored.clear()
    groups = [number // 10 for number in range(300)]
    assert run(kernel, features, 3, groups=groups).image.tolist() == [0, 10, 20]
    assert scored == [0, 10, 20, 250]
