from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import block_of, close_calls, find, parts_of, problems, same
from oracle import naive_score, naive_search

from vfs_ops.errors import QueryError
from vfs_ops.kernel import (
    batches,
    candidates,
    compact,
    compact_pass,
    deciding,
    float_pass,
    scoring,
    spreading,
)
from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Part, Scratch
from vfs_ops.kernel.candidates import Images
from vfs_ops.kernel.compact_pass import CompactErrors
from vfs_ops.kernel.exact import Pattern, exact_scores
from vfs_ops.kernel.scoring import all_scores, best_of_parts, best_scores
from vfs_ops.kernel.topk import Best, best_of

FORMS = ["stored", "compact", "torch"]
"""Stored values, by the compiled loop where channels fill registers; the compact form, or torch,
for every query."""


@pytest.fixture(autouse=True)
def one_pass(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the form of a test's blocks choose the pass, not what is faster."""
    monkeypatch.setattr(scoring, "_MANY_TAPS", -1)
    if request.node.name.partition("[")[2].startswith("torch"):
        monkeypatch.setattr(float_pass, "loop_registers", lambda *_: None)


def cut_small(patch: pytest.MonkeyPatch) -> None:
    """Make products, tiles and steps so small that few images need several of each."""
    patch.setattr(float_pass, "_BLOCK_BYTES", 1024)
    patch.setattr(float_pass, "_RESULT_BYTES", 1024)
    patch.setattr(float_pass, "_SIDEWAYS_COLUMNS", 5)
    patch.setattr(compact_pass, "_SIDEWAYS_COLUMNS", 5)
    patch.setattr(compact, "_CELLS_AT_ONCE", 16)
    patch.setattr(compact, "_LEAST_ROWS", 2)
    patch.setattr(batches, "COLUMNS_AT_ONCE", 12)
    patch.setattr(deciding, "_IMAGES_AT_ONCE", 3)
    patch.setattr(candidates, "_LEAST_IMAGES", 1)
    patch.setattr(candidates, "_VALUES_TAKEN", 64)
    patch.setattr(candidates, "_VALUES_AT_ONCE", 16)


@pytest.mark.parametrize("narrow", [0, 1000])
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40, deadline=None)
@given(problem=problems())
def test_hits_are_those_of_a_triple_loop(form: str, narrow: int, problem: dict[str, Any]) -> None:
    features, queries = problem["features"], problem["queries"]
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch)
        patch.setattr(batches, "_NARROW_COLUMNS", narrow)  # 1000: few windows, cell by cell
        batch = Batch.of([Pattern.of(*query) for query in queries], features.shape[1:3])
        parts = parts_of(
            features,
            problem["cuts"],
            form,
            groups=problem["groups"],
            allowed=problem["allowed"],
        )
        found = best_of_parts(batch, parts, problem["k"])
    for (weights, query), allowed, best in zip(queries, problem["allowed"], found, strict=True):
        expected = naive_search(
            weights,
            query,
            features,
            problem["k"],
            rows=np.flatnonzero(allowed).tolist(),
            groups=problem["groups"].tolist(),
        )
        assert len(best) == len(expected)
        high, wide = weights.shape
        for number, (score, image, y, x) in enumerate(expected):
            assert best.score[number] == pytest.approx(score, abs=1e-12)
            place = best.image[number], best.y[number], best.x[number]
            if place != (image, y, x):  # only where two ways of summing round a tie differently
                cells = features[place[0], place[1] : place[1] + high, place[2] : place[2] + wide]
                assert naive_score(weights, query, cells) == pytest.approx(score, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(problem=problems(), order=st.randoms(use_true_random=False))
def test_hits_have_the_same_bits_whatever_is_searched_together(
    problem: dict[str, Any], order: Any
) -> None:
    features, k, groups = problem["features"], problem["k"], problem["groups"]
    patterns = [Pattern.of(*query) for query in problem["queries"]]
    batch = Batch.of(patterns, features.shape[1:3])
    whole = best_of_parts(batch, parts_of(features, [], groups=groups), k)
    alone = [find(features, [pattern], k, "compact", groups=groups)[0] for pattern in patterns]
    parts = parts_of(features, problem["cuts"], "compact", groups=groups)
    order.shuffle(parts)
    together = best_of_parts(batch, parts, k)
    running = [Best.empty()] * len(batch)
    scratch = Scratch()
    for part in parts:
        floors = np.array([best.floor(k) for best in running])
        found = best_of_parts(batch, [part], k, floors, scratch)
        running = [best_of(both, k) for both in zip(running, found, strict=True)]
    for number, best in enumerate(whole):
        same(best, alone[number])
        same(best, together[number])
        same(best, running[number])


@pytest.mark.parametrize("form", FORMS)
def test_threads_change_nothing(form: str) -> None:
    pattern, features = close_calls()
    patterns = [pattern, Pattern.of(np.ones((7, 7), np.float32), features[0])]
    batch = Batch.of(patterns, (7, 7))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(best_of_parts(batch, parts_of(features, [10, 90, 200], form), 20))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for one, another in zip(found[0], other, strict=True):
            same(one, another)


@pytest.mark.parametrize("form", FORMS)
def test_scores_closer_than_float32_can_tell_are_ranked_in_float64(form: str) -> None:
    pattern, features = close_calls()
    windows = np.nonzero(np.ones((300, 5, 5), bool))
    exact = exact_scores(pattern, features, *windows)
    order = np.lexsort((*windows[::-1], -exact))
    places = np.stack(windows, axis=1)[order]
    _, first = np.unique(places[:, 0], return_index=True)
    [found] = find(features, [pattern], 20, form)
    np.testing.assert_array_equal(
        np.stack([found.image, found.y, found.x], axis=1), places[np.sort(first)[:20]]
    )
    assert np.ptp(found.score) < 1e-8


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_a_fast_pass_as_wrong_as_its_bound_allows_changes_nothing(
    form: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern, features = close_calls()
    features[100:] = np.random.default_rng(seed).random(features[100:].shape)
    [expected] = find(features, [pattern], 30, form)
    noise = np.random.default_rng(seed)
    honest, bounds = scoring.float_scores, CompactErrors.bounds

    def shifted(batch: Batch, *others: Any) -> Any:
        [error] = float_pass.float_errors(batch, 0)
        for group, part, scores in honest(batch, *others):
            signs = torch.from_numpy(noise.choice([-1.0, 1.0], tuple(scores.shape)))
            yield group, part, scores.double() + 0.98 * error * signs

    def lowest(self: CompactErrors, queries: Any, share: Any, highest: Any) -> Any:
        error = self.factor[queries, None] * (1 + share) + self.rest[queries, None]
        return bounds(self, queries, share, highest - error * noise.random(highest.shape) * 0.9)

    monkeypatch.setattr(scoring, "float_scores", shifted)
    if seed:
        monkeypatch.setattr(CompactErrors, "bounds", lowest)
    same(find(features, [pattern], 30, form)[0], expected)


@pytest.mark.parametrize("form", FORMS)
def test_ties_go_to_the_lower_image_then_y_then_x_across_blocks(form: str) -> None:
    features = np.zeros((6, 4, 4, 8), np.float16)
    for image, y, x in [(5, 0, 0), (2, 2, 1), (2, 1, 3), (2, 1, 2), (4, 3, 3)]:
        features[image, y, x, :3] = [1, 2, 3]
    batch = Batch.of([Pattern.of(np.ones((1, 1), np.float32), features[5, :1, :1])], (4, 4))
    [found] = best_of_parts(batch, parts_of(features, [1, 3, 5], form)[::-1], 4)
    places = list(zip(found.image.tolist(), found.y.tolist(), found.x.tolist(), strict=True))
    assert places == [(2, 1, 2), (4, 3, 3), (5, 0, 0), (0, 0, 0)]
    assert found.score[3] == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("k", [1, 5, 20])
def test_perfect_scores_tie_where_no_bound_is_above_them(form: str, k: int) -> None:
    one_hot = np.eye(8, dtype=np.float32)  # summed without rounding, and nothing lost when compact
    features = one_hot[np.random.default_rng(0).integers(1, 8, (40, 2, 2))]
    features[np.arange(40), np.arange(40) % 2, np.arange(40) % 3 % 2] = one_hot[0]
    batch = Batch.of([Pattern.of(np.ones((1, 1), np.float32), one_hot[:1, None])], (2, 2))
    [best] = best_of_parts(batch, parts_of(features, [], form), k)
    [above] = best_of_parts(batch, parts_of(features, [], form), k, np.ones(1))
    same(best, above)
    assert best.image.tolist() == list(range(k))
    np.testing.assert_array_equal(best.score, 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("side", [1, 2])
def test_images_without_features_tie_at_zero(form: str, k: int, side: int) -> None:
    features = np.zeros((40, side, side, 8), np.float32)
    ones = Pattern.of(np.ones((1, 1), np.float32), np.ones((1, 1, 8), np.float32))
    features[::3] = -np.random.default_rng(0).random((14, side, side, 8))
    [best] = find(features, [ones], k, form)
    assert best.image.tolist() == np.flatnonzero(np.arange(40) % 3)[:k].tolist()
    np.testing.assert_array_equal(best.score, 0)


def test_more_hits_than_images_are_asked_for() -> None:
    pattern, features = close_calls()
    for form in FORMS:
        [found] = find(features[:7], [pattern], 50, form)
        assert sorted(found.image.tolist()) == list(range(7))


def test_each_query_leaves_out_its_own_images() -> None:
    pattern, features = close_calls()
    allowed = np.ones((2, 300), bool)
    allowed[1, ::2] = False
    for form in FORMS:
        every, odd = find(features, [pattern, pattern], 5, form, allowed=allowed)
        same(every, find(features, [pattern], 5, form)[0])
        assert (odd.image % 2 == 1).all()
        assert len(odd) == 5


def test_nothing_allowed_gives_no_hit() -> None:
    pattern, features = close_calls()
    assert len(find(features, [pattern], 5, "stored", allowed=np.zeros(300, bool))[0]) == 0
    assert best_of_parts(Batch.of([pattern], (7, 7)), [], 5)[0].floor(1) == -np.inf


def test_torch_may_round_factors_and_hits_stay_the_same() -> None:
    pattern, features = close_calls()
    [expected] = find(features, [pattern], 20, "stored")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        [found] = find(features, [pattern], 20, "stored")
    finally:
        torch.set_float32_matmul_precision(before)
    same(found, expected)


@pytest.mark.parametrize("form", FORMS)
def test_autocast_and_other_defaults_of_torch_change_nothing(form: str) -> None:
    pattern, features = close_calls()
    [expected] = find(features, [pattern], 20, form)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            [found] = find(features, [pattern], 20, form)
    finally:
        torch.set_default_dtype(torch.float32)
    same(found, expected)


def test_read_only_memory_is_read_and_never_written() -> None:
    pattern, features = close_calls()
    before = features.copy()
    features.setflags(write=False)
    for form in FORMS:
        same(find(features, [pattern], 3, form)[0], find(before, [pattern], 3, form)[0])
    small = np.ones((5, 1, 1, 8), np.float32)  # needs no reordering
    block_of(small, "compact")
    np.testing.assert_array_equal(small, 1)


@pytest.mark.parametrize("form", FORMS)
def test_buffers_are_used_again(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreading._of_worker, "alone", True)  # which thread gets what is chance
    pattern, features = close_calls()
    batch, scratch = Batch.of([pattern], (7, 7)), Scratch()
    parts = parts_of(features, [100], form)
    first = best_of_parts(batch, parts, 5, scratch=scratch)
    held = scratch.nbytes
    assert held > 0
    same(best_of_parts(batch, parts, 5, scratch=scratch)[0], first[0])
    assert scratch.nbytes == held


@pytest.mark.parametrize("size", [1, 3, 6, 7])
@pytest.mark.parametrize("queries", [1, 3, 40])
@pytest.mark.parametrize("form", ["torch", "stored"])
def test_buffers_take_no_more_than_is_promised(
    form: str, queries: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreading._of_worker, "alone", True)  # one thread
    monkeypatch.setattr(float_pass, "_BLOCK_BYTES", 1 << 20)
    monkeypatch.setattr(candidates, "_VALUES_TAKEN", 1 << 16)
    monkeypatch.setattr(candidates, "_VALUES_AT_ONCE", 1 << 14)
    _, features = close_calls()
    features[:, 1:3] = features[:, 4:6]  # images with two best windows
    masks = np.random.default_rng(0).random((queries, size, size)).astype(np.float32) + 0.1
    patterns = [Pattern.of(mask, features[0, :size, :size]) for mask in masks]
    taken = []
    for rows in (100, 300):
        scratch = Scratch()
        parts = parts_of(features[:rows], [])
        best_of_parts(Batch.of(patterns, (7, 7)), parts, 5, scratch=scratch)
        taken.append(scratch.nbytes)
    promised = scoring.scratch_bytes((7, 7), 64, queries)
    assert max(taken) <= promised
    assert form != "torch" or promised < 12 * min(taken)


def count_windows(patch: pytest.MonkeyPatch, scored: list[int]) -> None:
    """Note the number of each image of which one window is scored again."""
    windows = Images.windows

    def counting(self: Any, query: Batch, numbers: np.ndarray, *others: Any) -> Best:
        scored.extend(numbers.tolist())
        return windows(self, query, numbers, *others)

    patch.setattr(Images, "windows", counting)


def test_copies_of_an_image_are_not_all_scored_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features = np.repeat(rng.standard_normal((1, 2, 2, 8)).astype(np.float32), 300, axis=0)
    features[250] = features[0] * 2  # as similar, not the same
    pattern = Pattern.of(np.ones((1, 1), np.float32), features[0, :1, :1])
    scored: list[int] = []
    count_windows(monkeypatch, scored)
    for form in FORMS:
        scored.clear()
        [best] = find(features, [pattern], 4, form)
        assert best.image.tolist() == [0, 1, 2, 3]
        assert len(set(scored)) == len(scored) <= 4 + 4 + 1
        scored.clear()
        [best] = find(features, [pattern], 3, form, groups=np.arange(300) // 10)
        assert best.image.tolist() == [0, 10, 20]
        assert len(scored) <= 3 + 3 + 1


def test_a_group_that_has_its_hit_is_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).standard_normal((900, 2, 2, 8)).astype(np.float32)
    pattern = Pattern.of(np.ones((1, 1), np.float32), features[0, :1, :1])
    scored: list[int] = []
    count_windows(monkeypatch, scored)
    [best] = find(features, [pattern], 5, "stored", groups=np.arange(900) % 3)
    assert len(best) == 3
    assert len(scored) < 300


@pytest.mark.parametrize("form", FORMS)
def test_images_with_several_windows_that_may_be_best_are_scored_whole(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern, features = close_calls()
    features[:, 1:3] = features[:, 4:6]  # the same window twice, first where y is lower
    scored: list[int] = []
    exact = Images.exact

    def counting(self: Any, query: Batch, numbers: np.ndarray, *others: Any) -> Best:
        scored.extend(numbers.tolist())
        return exact(self, query, numbers, *others)

    monkeypatch.setattr(Images, "exact", counting)
    [best] = find(features, [pattern], 5, form)
    scores = all_scores(pattern, features)
    first = scores.reshape(len(features), -1).argmax(axis=1)[best.image]
    np.testing.assert_array_equal(np.stack([best.y, best.x]), np.stack(np.divmod(first, 5)))
    assert len(scored) == len(set(scored))


@pytest.mark.parametrize("form", FORMS)
def test_the_best_window_of_every_image(form: str) -> None:
    pattern, features = close_calls()
    features = features[:40]
    batch = Batch.of([pattern, pattern], (7, 7))
    allowed = np.ones((2, 40), bool)
    allowed[1, 5] = False
    [part] = parts_of(features, [], form, allowed=allowed)
    score, y, x = best_scores(batch, part)
    exact = all_scores(pattern, features)
    np.testing.assert_array_equal(score[0], exact.max(axis=(1, 2)))
    flat = exact.reshape(40, -1).argmax(axis=1)
    np.testing.assert_array_equal(np.stack([y[0], x[0]]), np.stack(np.divmod(flat, 5)))
    assert np.isnan(score[1, 5])
    assert (y[1, 5], x[1, 5]) == (-1, -1)
    kept = np.delete(np.arange(40), 5)
    np.testing.assert_array_equal(score[1, kept], score[0, kept])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_maps_of_scores_have_the_bits_of_the_exact_score(dtype: type) -> None:
    features = np.random.default_rng(2).standard_normal((9, 5, 5, 33)).astype(dtype)
    pattern = Pattern.of(np.ones((2, 2), np.float32), features[4, 1:3, 2:4])
    found = all_scores(pattern, features)
    windows = np.nonzero(np.ones((9, 4, 4)))
    np.testing.assert_array_equal(found.ravel(), exact_scores(pattern, features, *windows))
    assert 1 - 1e-15 <= found[4, 1, 2] <= 1


def test_blocks_may_be_empty_of_what_is_allowed() -> None:
    pattern, features = close_calls()
    parts = parts_of(features, [100])
    parts[0] = Part(parts[0].block, parts[0].images, parts[0].groups, np.zeros(100, bool))
    [found] = best_of_parts(Batch.of([pattern], (7, 7)), parts, 300)
    assert found.image.min() == 100


def test_a_region_larger_than_the_grid_is_refused() -> None:
    pattern = Pattern.of(np.ones((3, 1), np.float32), np.ones((3, 1, 2), np.float32))
    with pytest.raises(QueryError, match=r"3 × 1 cells.*2 × 2"):
        Batch.of([pattern], (2, 2))
