"""Finding images again in a dataset, by content digest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vfs_ops.datasets.dataset import Dataset


def rows_of(dataset: Dataset, digests: Sequence[bytes | None]) -> list[NDArray[np.int64]]:
    """Return, for each digest, the rows that hold that image, ascending; none for None."""
    found: dict[bytes, list[int]] = {digest: [] for digest in digests if digest is not None}
    if found:
        column = _digests(dataset)
        places = pc.is_in(column, value_set=pa.array(list(found), column.type))
        for row in np.flatnonzero(places.to_numpy(zero_copy_only=False)).tolist():
            found[column[row].as_py()].append(row)
    return [np.array([] if digest is None else found[digest], np.int64) for digest in digests]


@lru_cache(maxsize=4)
def _digests(dataset: Dataset) -> pa.Array:
    """Read the digests of all images; 32 bytes each, kept since every search asks for them."""
    return dataset.table(["digest"])["digest"].combine_chunks()
