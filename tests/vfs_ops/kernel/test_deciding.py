from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kernel_cases import FORMS, close_calls, find, parts_of, same

from vfs_ops.kernel import (
    float_pass,
    scoring,
)
from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.candidates import Images
from vfs_ops.kernel.compact_pass import CompactErrors
from vfs_ops.kernel.exact import Pattern, exact_scores
from vfs_ops.kernel.scoring import all_scores, best_of_parts
from vfs_ops.kernel.topk import Best

pytestmark = pytest.mark.usefixtures("one_pass")


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
