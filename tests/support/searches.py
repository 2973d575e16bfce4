"""What tests of searches share."""

from __future__ import annotations

from vfs_ops.scans.hits import Hits

BOX = [(16.0, 12.0, 48.0, 36.0)]


def places(hits: Hits) -> list[tuple[float, int, int, int]]:
    columns = (hits.score, hits.image, hits.cell_y, hits.cell_x)
    return list(zip(*(column.tolist() for column in columns), strict=True))
