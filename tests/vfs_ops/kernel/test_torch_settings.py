"""Whatever torch is told, hits are the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_cases import FORMS, close_calls, find, parts_of, same

from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.scoring import best_of_parts

pytestmark = pytest.mark.usefixtures("one_pass")


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
