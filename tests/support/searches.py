"""What tests of searches share."""

from __future__ import annotations

import threading

from vfs_ops.scans.hits import Hits

BOX = [(16.0, 12.0, 48.0, 36.0)]


def places(hits: Hits) -> list[tuple[float, int, int, int]]:
    columns = (hits.score, hits.image, hits.cell_y, hits.cell_x)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def our_threads() -> list[str]:
    """Return the threads that searches and reads have left, but for those that the kernel keeps.

    Threads of others come and go beside a test.
    """
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("vfs-scan", "storage"))]


def found(hits):
    """What some answers found, as lists to compare bit for bit."""
    return [
        tuple(one.tolist() for one in (each.score, each.image, each.cell_y, each.cell_x))
        for each in hits
    ]
