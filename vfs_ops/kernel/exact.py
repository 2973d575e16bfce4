"""The score in float64, summed in one fixed order: what ranks, breaks ties and is reported.

        Σ m²·⟨q, s⟩
    ─────────────────────        sums over the cells with m > 0
    √Σ m²|q|² · √Σ m²|s|²

Equations 1-5 of Ulrich and Fong, "Interactive Visual Feature Search" (2023), without the epsilon of
its implementation. Where a norm is zero the score is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from vfs_ops.errors import DamagedError, QueryError

ELEMENTS_AT_ONCE: Final = 1 << 17
"""Values multiplied in one go: 1 MB of float64."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """A region's weights and features in the form that scores are computed from."""

    size: tuple[int, int]
    """Rows and columns of cells of the region's bounding box."""
    cells: NDArray[np.intp]
    """Positions (y, x) in the bounding box of the cells with weight above zero, shape (cell, 2)."""
    squared: NDArray[np.float64]
    """m² of these cells, shape (cell,)."""
    products: NDArray[np.float64]
    """m²·q / √Σ m²|q|² of these cells, shape (cell, channel)."""

    @classmethod
    def of(cls, weights: NDArray[np.float32], features: NDArray[np.floating]) -> Self:
        """Normalise a query.

        Parameters
        ----------
        weights
            Shape (y, x), in [0, 1].
        features
            Shape (y, x, channel), finite.

        Raises
        ------
        QueryError
            If a feature is not finite, or all are zero where the weights are not.
        """
        kept = weights > 0
        squared = weights[kept].astype(np.float64) ** 2
        vectors = features[kept].astype(np.float64)
        norm = float(np.sqrt((squared[:, None] * vectors**2).sum()))
        if not np.isfinite(norm):
            raise QueryError(
                "the query's features are not finite; use another image, or compute in float32"
            )
        if norm == 0:
            raise QueryError(
                "all features under the region are zero, so nothing is similar to it; "
                "highlight another part, or choose another layer"
            )
        products = np.ascontiguousarray(squared[:, None] * vectors / norm)
        return cls((weights.shape[0], weights.shape[1]), np.argwhere(kept), squared, products)

    @property
    def channels(self) -> int:
        """Length of a feature vector."""
        return int(self.products.shape[1])

    def offsets(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Return how many rows and columns the box can begin at, wholly inside `grid`."""
        return grid[0] - self.size[0] + 1, grid[1] - self.size[1] + 1


def exact_scores(
    pattern: Pattern,
    features: NDArray[np.floating],
    image: NDArray[np.intp],
    y: NDArray[np.intp],
    x: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Score windows.

    Every step is elementwise over the windows, except the sum over a cell's channels, which has a
    fixed length in contiguous memory, so a score has the same bits whatever else is scored with it.

    Parameters
    ----------
    pattern
        The query.
    features
        Stored features, shape (image, y, x, channel), contiguous.
    image, y, x
        Where the windows begin, shape (window,) each.

    Returns
    -------
    ndarray
        Shape (window,), in [-1, 1].

    Raises
    ------
    DamagedError
        If a feature is not finite.
    """
    _, rows, columns, channels = features.shape
    cells = features.reshape(-1, channels)
    begin = (image * rows + y) * columns + x
    steps = pattern.cells[:, 0] * columns + pattern.cells[:, 1]
    return _scores(pattern, len(image), lambda part: cells[begin[part, None] + steps])


def window_scores(pattern: Pattern, stored: NDArray[np.floating]) -> NDArray[np.float64]:
    """Score windows whose kept cells are given, shape (window, cell, channel)."""
    return _scores(pattern, len(stored), lambda part: stored[part])


def _scores(
    pattern: Pattern, windows: int, kept: Callable[[slice], NDArray[np.floating]]
) -> NDArray[np.float64]:
    """Score windows, given a function that returns the kept cells of some of them."""
    scores = np.empty(windows)
    at_once = max(1, ELEMENTS_AT_ONCE // len(pattern.squared))  # as many cells
    for start in range(0, windows, at_once):
        part = slice(start, min(start + at_once, windows))
        scores[part] = _some_scores(pattern, part, kept)
    return scores


def _some_scores(
    pattern: Pattern, wanted: slice, kept: Callable[[slice], NDArray[np.floating]]
) -> NDArray[np.float64]:
    shape, windows = pattern.products.shape, wanted.stop - wanted.start
    at_once = max(1, min(windows, ELEMENTS_AT_ONCE // pattern.products.size))
    vectors, products = np.empty((2, at_once, *shape))  # new memory for each step takes longer
    similarity, energy = np.empty((2, windows, shape[0]))
    for start in range(0, windows, at_once):
        part = slice(start, min(start + at_once, windows))
        some, made = vectors[: part.stop - start], products[: part.stop - start]
        some[:] = kept(slice(wanted.start + part.start, wanted.start + part.stop))
        with np.errstate(invalid="ignore"):
            np.multiply(some, pattern.products, out=made).sum(axis=2, out=similarity[part])
        np.multiply(some, some, out=made).sum(axis=2, out=energy[part])
    energy *= pattern.squared
    if not np.isfinite(energy).all():
        raise not_finite("an image")
    numerator, squared_norm = np.zeros(windows), np.zeros(windows)
    for cell in range(shape[0]):
        numerator += similarity[:, cell]
        squared_norm += energy[:, cell]
    scores = np.zeros(windows)
    np.divide(numerator, np.sqrt(squared_norm), out=scores, where=squared_norm > 0)
    return np.clip(scores, -1.0, 1.0)


def not_finite(what: str) -> DamagedError:
    """Return the error to raise where stored features are NaN or infinite, which none may be."""
    return DamagedError(
        f"the stored features of {what} are not finite, so it has no score; run verify on this "
        "cache, and build it again"
    )
