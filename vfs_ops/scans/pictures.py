"""What figures show: previews, and of a query its image, made small, and what was highlighted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from vfs_ops.caches.cache import Cache
from vfs_ops.errors import ImageError, NotFoundError
from vfs_ops.images.decoding import decode_image
from vfs_ops.images.geometry import Frame, PixelMask

PICTURE_SIDE: Final = 512
"""Longest side of a query's picture, in pixels; smaller images keep their size."""


@dataclass(frozen=True, eq=False)
class Picture:
    """What a figure shows of a query."""

    image: Image.Image | None
    """The whole image, RGB, at most 512 pixels a side; None where there is no preview."""
    mask: PixelMask
    """What was highlighted, uint8 of the size of `image`: 255 inside."""
    frame: Frame
    """How the original image maps into the model's input."""


def picture_of(image: Image.Image | None, mask: PixelMask, frame: Frame) -> Picture:
    """Make the picture of a query.

    Parameters
    ----------
    image
        Decoded, or a preview of it; it is not changed. None if there is none.
    mask
        Uint8 ``(height, width)`` of the original image.
    frame
        How that maps into the model's input.
    """
    shown = None
    if image is not None:
        shown = image.convert("RGB")
        shown.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    small = Image.fromarray(mask)
    if shown is None:
        small.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    else:
        small = small.resize(shown.size, Image.Resampling.BOX)
    return Picture(shown, np.asarray(small), frame)


def preview_of(cache: Cache, row: int) -> Image.Image | None:
    """Return the preview of an image of a cache's dataset; None if there is none to be shown."""
    try:
        return decode_image(cache.dataset.preview(row)).convert("RGB")
    except (NotFoundError, ImageError):
        return None
