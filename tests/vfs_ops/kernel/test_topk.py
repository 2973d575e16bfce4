from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vfs_ops.kernel.topk import Best, best_of

windows = st.lists(
    st.tuples(
        st.sampled_from([-0.5, 0.0, 0.25, 1.0]),
        st.integers(0, 5),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    max_size=40,
)


def make(found: list[tuple[float, int, int, int]], groups: int) -> Best:
    score, image, y, x = (np.array(column) for column in zip(*found, strict=True))
    return Best(score.astype(float), image, y, x, image % groups)


def listed(best: Best) -> list[tuple[float, int, int, int, int]]:
    return list(
        zip(
            best.score.tolist(),
            best.image.tolist(),
            best.y.tolist(),
            best.x.tolist(),
            best.group.tolist(),
            strict=True,
        )
    )


@given(
    found=windows,
    cuts=st.lists(st.integers(0, 40), max_size=4),
    order=st.randoms(),
    k=st.integers(1, 9),
    groups=st.sampled_from([1, 3, 6]),
)
def test_a_merge_in_any_order_is_a_plain_sort(
    found: list[tuple[float, int, int, int]],
    cuts: list[int],
    order: object,
    k: int,
    groups: int,
) -> None:
    expected: dict[int, tuple[float, int, int, int]] = {}
    for window in sorted(found, key=lambda w: (-w[0], *w[1:])):
        expected.setdefault(window[1] % groups, window)
    bounds = [0, *sorted(min(cut, len(found)) for cut in cuts), len(found)]
    pieces = [found[a:b] for a, b in pairwise(bounds) if a < b]
    order.shuffle(pieces)  # type: ignore[attr-defined]
    running = Best.empty()
    for piece in pieces:
        running = best_of([running, best_of([make(piece, groups)], k)], k)
    assert listed(running) == [(*window, window[1] % groups) for window in expected.values()][:k]


def test_the_floor_is_the_score_to_reach() -> None:
    best = make([(1.0, 0, 0, 0), (0.5, 1, 0, 0)], 31)
    assert best.floor(2) == 0.5
    assert best.floor(3) == -np.inf
    assert len(best_of([], 3)) == 0
