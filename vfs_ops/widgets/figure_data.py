"""What a figure sends to the browser: a small document, and bulk data cut into messages."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from PIL import Image

from vfs_ops.overlays.mapped_images import MapLayer, MappedImages
from vfs_ops.widgets import base
from vfs_ops.widgets.base import Answer

_JPEG_QUALITY: Final = 85
_SURROUNDINGS: Final = 0.06  # of what the models see, shown on each side of it

Document = dict[str, Any]
Blobs = Mapping[str, bytes]


def images_document(mapped: MappedImages) -> Document:
    """Return what the browser must know of images and layers, apart from bulk data.

    Returns
    -------
    dict
        ``images``: label of each, the box of it to show (what any of the models sees, and a
        little around it), and that box's aspect, width over height. ``layers``: label, rows,
        columns and channels of each, and per image the box that the grid covers. Boxes are
        (left, top, right, bottom) in parts of the image's width and height; beyond 0 and 1 where
        a model pads.
    """
    boxes = [_boxes(layer) for layer in mapped.layers]
    views = [_view(several) for several in zip(*boxes, strict=True)]
    return {
        "images": [
            {
                "label": label,
                "view": view,
                "aspect": (view[2] - view[0]) * width / ((view[3] - view[1]) * height),
            }
            for label, view, (width, height) in zip(mapped.labels, views, mapped.sizes, strict=True)
        ],
        "layers": [
            {
                "label": layer.label,
                "rows": layer.grid[0],
                "columns": layer.grid[1],
                "channels": layer.channels,
                "boxes": of_images,
            }
            for layer, of_images in zip(mapped.layers, boxes, strict=True)
        ],
    }


def picture_blobs(mapped: MappedImages) -> dict[str, bytes]:
    """Return the images as JPEGs, named ``picture/<number>``; those without one are left out."""
    return {
        f"picture/{number}": _jpeg(picture)
        for number, picture in enumerate(mapped.pictures)
        if picture is not None
    }


def cut_messages(blobs: Blobs) -> list[Answer]:
    """Cut named blobs into answers of at most `MESSAGE_BYTES` each, in order.

    Returns
    -------
    list of Answer
        The value's ``pieces`` name, per buffer, the blob that it is of, where it begins in that,
        and the blob's length.
    """
    answers: list[Answer] = []
    pieces: list[Document] = []
    buffers: list[memoryview] = []
    room = base.MESSAGE_BYTES
    for name, start, piece, total in _pieces(blobs, base.MESSAGE_BYTES):
        if len(piece) > room:
            answers.append(Answer({"pieces": pieces}, buffers))
            pieces, buffers, room = [], [], base.MESSAGE_BYTES
        pieces.append({"name": name, "start": start, "total": total})
        buffers.append(piece)
        room -= len(piece)
    return [*answers, Answer({"pieces": pieces}, buffers)]


def _pieces(blobs: Blobs, limit: int) -> Iterator[tuple[str, int, memoryview, int]]:
    for name, data in blobs.items():
        for start in range(0, len(data), limit):
            yield name, start, memoryview(data)[start : start + limit], len(data)


def _boxes(layer: MapLayer) -> list[list[float]]:
    rows, columns = layer.grid
    return [
        [
            float(frame.column_edges(columns)[0]) / frame.width,
            float(frame.row_edges(rows)[0]) / frame.height,
            float(frame.column_edges(columns)[-1]) / frame.width,
            float(frame.row_edges(rows)[-1]) / frame.height,
        ]
        for frame in layer.frames
    ]


def _view(boxes: Sequence[Sequence[float]]) -> list[float]:
    """Return the box around all, a little larger where it is not the whole image."""
    left, top, right, bottom = np.array(boxes).T
    low = np.array([left.min(), top.min()])
    high = np.array([right.max(), bottom.max()])
    more = _SURROUNDINGS * (high - low)
    low = np.where(low > 0, np.maximum(low - more, 0), low)
    high = np.where(high < 1, np.minimum(high + more, 1), high)
    return [*low.tolist(), *high.tolist()]


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
