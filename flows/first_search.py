"""The first search on a new cache: a picture that tells whether it is any good."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache
    from vfs_ops.scans.hits import Hits
    from vfs_ops.scans.queries import Query


def middle_of_first(cache: Cache) -> tuple[int, tuple[float, float, float, float]]:
    """Return the first readable image's row, and the box of its middle third.

    Returns
    -------
    row : int
    box : tuple of float
        Left, top, right, bottom in pixels.
    """
    row = next(row for row in range(cache.count) if row not in cache.invalid)
    size = cache.dataset.rows([row], ["width", "height"]).to_pylist()[0]
    width, height = size["width"], size["height"]
    return row, (width / 3, height / 3, width * 2 / 3, height * 2 / 3)


def first_query(cache: Cache) -> Query:
    """Return the query for the middle of the first readable image."""
    from vfs_ops.scans.queries import query_from_row

    row, box = middle_of_first(cache)
    return query_from_row(cache, row, boxes=[box])


def first_search(cache: Cache, k: int = 5) -> Hits | None:
    """Search for the middle of the first readable image; None where there are no two images."""
    from vfs_ops.scans.search import search

    if cache.count - len(cache.invalid) < 2:
        return None
    return search(cache, first_query(cache), k)
