"""Which feature values may be stored: the conversion, its price, and the norms kept beside it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vfs_ops.errors import FeatureRangeError
from vfs_ops.identity.spec import StoredDtype

MAX_COSINE_COST: Final = 1e-4
"""A stored cell may differ from the computed one by this much of cosine similarity."""
SMALLEST_SQUARED_NORM: Final = 2.0**-100
"""Cells shorter than this are stored as zeros, so that float32 products never underflow."""

_ROWS_AT_ONCE = 64  # keeps float64 intermediates in the processor's cache's reach


def squared_norms(stored: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return |feature|² of every cell: summed in float64, rounded once to float32.

    Parameters
    ----------
    stored
        Shape (image, y, x, channel).

    Returns
    -------
    ndarray
        Shape (image, y, x); infinite where the sum exceeds float32.
    """
    result = np.empty(stored.shape[:3], np.float32)
    for start in range(0, len(stored), _ROWS_AT_ONCE):
        block = stored[start : start + _ROWS_AT_ONCE].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            result[start : start + _ROWS_AT_ONCE] = np.einsum("nyxc,nyxc->nyx", block, block)
    return result


def to_stored(
    features: NDArray[np.float32], dtype: StoredDtype
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Convert computed features to the stored type, or refuse.

    Parameters
    ----------
    features
        Shape (image, y, x, channel).
    dtype
        The stored type.

    Returns
    -------
    stored : ndarray
        Same shape. All zeros for images whose features are not finite or beyond float32's squares,
        and for cells below `SMALLEST_SQUARED_NORM`.
    finite : ndarray
        Shape (image,), bool: the other images.

    Raises
    ------
    FeatureRangeError
        If `dtype` overflows, or costs a cell more than `MAX_COSINE_COST` of cosine similarity.
    """
    squared = squared_norms(features)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(squared).all(axis=(1, 2)))
    kept = features
    if not finite.all():
        kept = np.where(finite[:, None, None, None], features, np.float32(0))
        squared = np.where(finite[:, None, None], squared, np.float32(0))
    short = (squared < SMALLEST_SQUARED_NORM) & (squared > 0)
    short |= (squared == 0) & kept.any(axis=-1)  # shorter than float32's squares can say
    if short.any():
        kept = np.where(short[..., None], np.float32(0), kept)
        squared = np.where(short, np.float32(0), squared)
    if dtype == "float32":
        return kept, finite
    with np.errstate(over="ignore"):
        stored = kept.astype(dtype)
    largest = float(np.abs(kept).max(initial=0))
    if not np.isfinite(stored).all():
        raise FeatureRangeError(
            f"features reach {largest:.6g}, which {dtype} cannot hold (up to "
            f"{np.finfo(dtype).max:.6g}); build with dtype float32"
        )
    cost = _cosine_cost(kept, stored, squared)
    if cost > MAX_COSINE_COST:
        raise FeatureRangeError(
            f"storing these features as {dtype} costs up to {cost:.2g} of cosine similarity; "
            f"{MAX_COSINE_COST:g} is allowed; build with dtype float32"
        )
    return stored, finite


def _cosine_cost(
    features: NDArray[np.float32], stored: NDArray[np.floating], squared: NDArray[np.float32]
) -> float:
    """Return the largest 1 - cos over all cells.

    With relative error r < 1, 1 - cos ≤ 1 - √(1 - r²) ≤ r². So a cell below `MAX_COSINE_COST` by
    that bound needs no exact look, and usually all are.
    """
    worst = 0.0
    for start in range(0, len(features), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        error = features[rows] - stored[rows].astype(np.float32)
        error_squared = np.einsum("nyxc,nyxc->nyx", error, error)
        doubtful = error_squared > MAX_COSINE_COST * squared[rows]
        if doubtful.any():
            computed = features[rows][doubtful].astype(np.float64)
            kept = stored[rows][doubtful].astype(np.float64)
            product = (computed * kept).sum(axis=1)
            norms = np.sqrt((computed**2).sum(axis=1) * (kept**2).sum(axis=1))
            cosine = np.divide(product, norms, out=np.zeros_like(product), where=norms > 0)
            worst = max(worst, float((1.0 - cosine).max()))
    return worst
