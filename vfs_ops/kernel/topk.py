"""The best windows of a search, merged in any order with the same result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Best:
    """Windows, best first, at most one per group: a higher score, then a lower image, y, x.

    All arrays have shape (window,). A group is all that may give one hit together: an image, or
    the images that share a label.
    """

    score: NDArray[np.float64]
    image: NDArray[np.int64]
    """Row of the dataset."""
    y: NDArray[np.int64]
    """Row of cells at which the window begins."""
    x: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def empty(cls) -> Self:
        """Return no window."""
        whole = np.empty(0, np.int64)
        return cls(np.empty(0), whole, whole, whole, whole)

    def __len__(self) -> int:
        return len(self.score)

    def floor(self, k: int) -> float:
        """Return the score that a window must reach to be among the best `k`: -inf if any may."""
        return float(self.score[k - 1]) if len(self) >= k else -np.inf

    def needed(self, groups: NDArray[np.int64], k: int) -> NDArray[np.float64]:
        """Return the score that windows must reach to change the best `k`, by their groups.

        That is `floor`, or the score of the best window of the same group.
        """
        needed = np.full(len(groups), self.floor(k))
        if len(self):
            order = np.argsort(self.group)
            at = order[np.searchsorted(self.group, groups, sorter=order).clip(max=len(self) - 1)]
            same = self.group[at] == groups
            needed[same] = np.maximum(needed[same], self.score[at[same]])
        return needed


def best_of(parts: Iterable[Best], k: int) -> Best:
    """Merge partial results and keep the best `k` groups.

    The merge is associative and commutative, and order, ties included, depends on the windows
    alone, so partial results may come in any order and be merged in any grouping. A part may hold
    several windows of a group.
    """
    every = joined(parts)
    order = np.lexsort((every.x, every.y, every.image, -every.score))
    _, first = np.unique(every.group[order], return_index=True)
    kept = order[np.sort(first)[:k]]
    return Best(
        every.score[kept], every.image[kept], every.y[kept], every.x[kept], every.group[kept]
    )


def joined(parts: Iterable[Best]) -> Best:
    """Put partial results after each other, as they are."""
    together = list(parts) or [Best.empty()]
    return Best(
        np.concatenate([part.score for part in together]),
        np.concatenate([part.image for part in together]),
        np.concatenate([part.y for part in together]),
        np.concatenate([part.x for part in together]),
        np.concatenate([part.group for part in together]),
    )
