"""Whether two computations of the same images' features agree."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MIN_COSINE: Final = 0.999
"""Cells computed on other hardware, or by other versions of the libraries, must be as close."""

_FAINT: Final = 0.01  # of the mean norm: below, a cell is rounding noise and has no direction


def lowest_cosine(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the lowest cosine similarity of the cells of two arrays; 1 if there are none.

    Cells that are fainter than a hundredth of the mean norm in both do not count.

    Parameters
    ----------
    first, second
        Of equal shape (image, y, x, channel), of any float dtype.

    Returns
    -------
    float
        -1 if the values are not finite.
    """
    ours, theirs = first.astype(np.float64), second.astype(np.float64)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return -1.0
    norms, others = np.linalg.norm(ours, axis=-1), np.linalg.norm(theirs, axis=-1)
    clear = np.maximum(norms, others) > _FAINT * (others.mean() if others.size else 0)
    products = np.einsum("nyxc,nyxc->nyx", ours, theirs)[clear]
    lengths = np.maximum((norms * others)[clear], np.finfo(np.float64).tiny)
    return float((products / lengths).min(initial=1.0))


def alike(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Tell whether two computations agree within `MIN_COSINE` in every cell.

    Images that either has as all zeros, since it could not be read there, do not count.
    """
    kept = first.any(axis=(1, 2, 3)) & second.any(axis=(1, 2, 3))
    return lowest_cosine(first[kept], second[kept]) >= MIN_COSINE
