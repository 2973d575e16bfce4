from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import FORMS, block_of, close_calls, find, parts_of, same

from vfs_ops.kernel import (
    candidates,
    float_pass,
    scoring,
    spreading,
)
from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Scratch
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.scoring import best_of_parts

pytestmark = pytest.mark.usefixtures("one_pass")


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
    monkeypatch.setattr(float_pass, "_NORMS_BYTES", 1 << 20)
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
