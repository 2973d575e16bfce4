"""Hits as the browser shows them: numbers and text, where the region lies, and previews."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vfs_ops.errors import VfsError
from vfs_ops.scans.hits import Hits
from vfs_ops.widgets.base import MESSAGE_BYTES, Answer, error_text
from vfs_ops.widgets.searching import Outcome


def row_of_cards(hits: Hits, room: int = MESSAGE_BYTES) -> tuple[dict[str, Any], list[bytes]]:
    """Return the hits of one cache for the browser.

    Parameters
    ----------
    hits
        Best first.
    room
        Bytes that their previews may have together; the others come without one.

    Returns
    -------
    value : dict
        ``cards``, each with ``score``, ``image``, ``label``, ``uri``, ``width``, ``height``,
        ``key`` (equal for equal images), and ``x`` and ``y``: the edges of the region's cells as
        parts of the image's sides; ``core``: which of these cells to outline; and what
        the search tells of itself: ``complete``, ``searched``, ``seconds``.
    previews : list of bytes
        A JPEG each; empty where there is none.
    """
    region, grid = hits.query.region, hits.cache.grid
    columns = hits.rows.select(["label", "uri", "width", "height", "digest"]).to_pydict()
    cards, previews = [], []
    for place, frame in enumerate(hits.frames()):
        row, column = int(hits.cell_y[place]), int(hits.cell_x[place])
        x = frame.column_edges(grid[1])[column : column + region.wide + 1] / frame.width
        y = frame.row_edges(grid[0])[row : row + region.high + 1] / frame.height
        cards.append(
            {
                "score": float(hits.score[place]),
                "image": int(hits.image[place]),
                "label": columns["label"][place] or "",
                "uri": columns["uri"][place],
                "width": columns["width"][place],
                "height": columns["height"][place],
                "key": columns["digest"][place].hex(),
                "x": np.clip(x, 0, 1).tolist(),
                "y": np.clip(y, 0, 1).tolist(),
            }
        )
        preview = _preview(hits, place)
        room -= len(preview)
        previews.append(preview if room >= 0 else b"")
    value = {
        "cards": cards,
        "core": region.core.astype(int).tolist(),
        "complete": hits.provenance.complete,
        "searched": hits.provenance.images_searched,
        "seconds": hits.provenance.seconds,
    }
    return value, previews


def answer_of(names: Sequence[str], outcome: Outcome) -> Answer:
    """Return the answer to a request to search.

    Parameters
    ----------
    names
        Of the caches, in the order of their rows.
    outcome
        What was found in which, and what went wrong.
    """
    rows: list[dict[str, Any]] = []
    buffers: list[bytes] = []
    for name in names:
        if name in outcome.hits:
            room = MESSAGE_BYTES - sum(map(len, buffers))
            row, previews = row_of_cards(outcome.hits[name], room)
            buffers += previews
            rows.append({"name": name, **row})
        elif name in outcome.errors:
            rows.append({"name": name, "error": error_text(outcome.errors[name])})
    shared = overlaps(outcome.hits)
    return Answer({"rows": rows, "overlaps": shared, "cancelled": outcome.cancelled}, buffers)


def overlaps(rows: Mapping[str, Hits]) -> list[dict[str, Any]]:
    """Return overlap@k of each two rows: shared images, by content, as a part of the longer row."""
    keys = {name: set(hits.rows["digest"].to_pylist()) for name, hits in rows.items()}
    names = list(keys)
    return [
        {
            "rows": [first, second],
            "shared": len(keys[first] & keys[second]),
            "k": max(len(keys[first]), len(keys[second])),
        }
        for place, first in enumerate(names)
        for second in names[place + 1 :]
    ]


def _preview(hits: Hits, place: int) -> bytes:
    try:
        return hits.cache.dataset.preview(int(hits.image[place]))
    except VfsError:
        return b""  # the card says that there is none
