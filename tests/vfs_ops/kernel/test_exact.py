from __future__ import annotations

import numpy as np
import pytest

from vfs_ops.errors import QueryError
from vfs_ops.kernel.exact import Pattern, exact_scores


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
    widened = exact_scores(pattern, features.astype(np.float32), *windows)
    np.testing.assert_array_equal(together, widened)


@pytest.mark.parametrize(
    ("value", "message"), [(0.0, "are zero"), (np.nan, "not finite"), (np.inf, "not finite")]
)
def test_a_query_without_a_direction_is_refused(value: float, message: str) -> None:
    query = np.ones((2, 2, 3), np.float32)
    query[0] = value
    weights = np.array([[1, 1], [0, 0]], np.float32)
    with pytest.raises(QueryError, match=message):
        Pattern.of(weights, query)
