"""A mosaic of a dataset's previews, as one small JPEG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageOps

from vfs_ops.errors import ImageError, NotFoundError
from vfs_ops.images.decoding import decode_image

if TYPE_CHECKING:
    from vfs_ops.datasets.dataset import Dataset

COLUMNS: Final = 8
ROWS: Final = 2
TILE: Final = 96
"""Pixels of a tile's side."""
_QUALITY: Final = 80


def make_mosaic(dataset: Dataset) -> tuple[bytes, int] | None:
    """Lay out previews spread evenly over the dataset.

    The previews are decoded, within the limits for untrusted images, and encoded anew.

    Returns
    -------
    data, count
        The JPEG, and how many images it shows; None where the dataset has no previews, as when it
        was mirrored without them.

    Raises
    ------
    DamagedError, StorageError
        If previews are there and cannot be read.
    """
    packs = dataset.table(["preview_pack"])["preview_pack"]
    rows = np.flatnonzero(packs.is_valid().to_numpy())
    if not len(rows):
        return None
    places = np.linspace(0, len(rows) - 1, min(COLUMNS * ROWS, len(rows))).round().astype(int)
    tiles = []
    for row in rows[places].tolist():
        try:
            preview = decode_image(dataset.preview(row))
        except NotFoundError:
            return None
        except ImageError:  # it was made from an image that could be read, and is one of many
            continue
        tiles.append(ImageOps.fit(preview.convert("RGB"), (TILE, TILE)))
    if not tiles:
        return None
    columns = min(COLUMNS, len(tiles))
    mosaic = Image.new("RGB", (columns * TILE, -(-len(tiles) // columns) * TILE), "#808080")
    for number, tile in enumerate(tiles):
        mosaic.paste(tile, (number % columns * TILE, number // columns * TILE))
    buffer = io.BytesIO()
    mosaic.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue(), len(tiles)
