"""Masks as they travel between Python and the browser: as lengths of runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vfs_ops.errors import RegionError


def encode_runs(mask: NDArray[np.bool_]) -> bytes:
    """Return the run lengths of a mask, row after row.

    Parameters
    ----------
    mask
        Bool ``(height, width)``.

    Returns
    -------
    bytes
        Little-endian uint32 each: pixels outside, inside, outside, … by turns.

    Examples
    --------
    >>> import numpy as np
    >>> np.frombuffer(encode_runs(np.array([[False, True], [True, False]])), "<u4").tolist()
    [1, 2, 1]
    """
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat)) + 1
    bounds = np.concatenate([[0], starts, [flat.size]])
    runs = np.diff(bounds)
    if flat.size and flat[0]:
        runs = np.concatenate([[0], runs])
    return runs.astype("<u4").tobytes()


def decode_runs(data: bytes | memoryview, width: int, height: int) -> NDArray[np.bool_]:
    """Return the mask of some run lengths, bool ``(height, width)``.

    Raises
    ------
    RegionError
        If they are not the runs of a mask of that size.
    """
    if len(data) % 4:
        raise RegionError(f"a mask came as {len(data)} bytes; expected numbers of 4 bytes each")
    runs = np.frombuffer(data, "<u4").astype(np.int64)
    if runs.sum() != width * height:
        raise RegionError(
            f"a mask of {runs.sum()} pixels came for an image of {width} × {height}; "
            "run the widget's cell again"
        )
    inside = np.arange(runs.size) % 2 == 1
    return np.repeat(inside, runs).reshape(height, width)
