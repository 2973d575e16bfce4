from __future__ import annotations

import numpy as np
import torch

from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.windows import WindowNorms, best_two


def test_the_best_window_and_the_best_of_the_others() -> None:
    scores = np.random.default_rng(0).standard_normal((3, 2, 4, 50)).astype(np.float32)
    windows = scores.reshape(3, 8, 50).copy()
    highest, window, others = best_two(torch.from_numpy(scores))
    np.testing.assert_array_equal(window, windows.argmax(axis=1))
    np.testing.assert_array_equal(
        [others, highest], np.sort(windows, axis=1)[:, -2:].swapaxes(0, 1)
    )
    assert set(best_two(torch.zeros(1, 1, 1, 5))[2].flatten().tolist()) == {-np.inf}


def test_norms_that_are_zero_or_nearly_give_finite_scores() -> None:
    batch = Batch.of([Pattern.of(np.full((1, 1), 1e-30, np.float32), np.ones((1, 1, 4)))], (1, 3))
    norms = torch.tensor([0, 2.0**-100, 1.0], dtype=torch.float64).view(1, 3, 1)
    [group] = batch.groups
    scores = WindowNorms(batch, norms).divide(group, torch.tensor([0, 0, 1e-30]).view(1, 1, 3, 1))
    np.testing.assert_allclose(scores.flatten(), [0, 0, 1], rtol=1e-6)
