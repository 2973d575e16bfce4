from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import FORMS, close_calls, find, parts_of, problems, same
from oracle import naive_score, naive_search

from vfs_ops.kernel import (
    batches,
    candidates,
    compact,
    compact_pass,
    deciding,
    float_pass,
)
from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Part, Scratch
from vfs_ops.kernel.exact import Pattern, exact_scores
from vfs_ops.kernel.scoring import all_scores, best_of_parts, best_scores
from vfs_ops.kernel.topk import Best, best_of

pytestmark = pytest.mark.usefixtures("one_pass")


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


def test_blocks_may_be_empty_of_what_is_allowed() -> None:
    pattern, features = close_calls()
    parts = parts_of(features, [100])
    parts[0] = Part(parts[0].block, parts[0].images, parts[0].groups, np.zeros(100, bool))
    [found] = best_of_parts(Batch.of([pattern], (7, 7)), parts, 300)
    assert found.image.min() == 100


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
