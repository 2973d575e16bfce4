"""A source that changed since it was ingested: what stays where it was, and what comes behind."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from vfs_ops.datasets.dataset import Dataset
from vfs_ops.datasets.sources import Listing


def in_earlier_order(listing: Listing, previous: Dataset) -> Listing:
    """Order a listing as an earlier dataset of the source, with what is new at the end.

    Full shards of caches then keep their images, and need not be computed again. An image whose
    content changed stays in its place. One that is gone leaves no hole: those behind it move up.

    Parameters
    ----------
    listing
        All images of the source, in its own order.
    previous
        An earlier dataset; images are told by their URI. One that stands in several rows keeps as
        many of them, in order.
    """
    places: dict[str, list[int]] = {}
    for row, uri in enumerate(listing.table["uri"].to_pylist()):
        places.setdefault(uri, []).append(row)
    for rows in places.values():
        rows.reverse()
    order = [
        places[uri].pop() for uri in previous.table(["uri"])["uri"].to_pylist() if places.get(uri)
    ]
    order += sorted(row for rows in places.values() for row in rows)
    taken = pa.array(order, pa.int64())
    return replace(listing, table=listing.table.take(taken), tokens=listing.tokens.take(taken))
