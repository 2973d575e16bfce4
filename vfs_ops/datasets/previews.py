"""Previews: small JPEGs of the images, in packs, each read by one ranged request."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image

from vfs_ops.errors import DamagedError

PREVIEW_SIDE: Final = 256
"""Longest side of a preview, in pixels; smaller images keep their size."""

PREVIEW_QUALITY: Final = 80
"""JPEG quality of a preview."""

MAX_PREVIEW_BYTES: Final = 2**20
"""Bytes of a preview, at most: several times what its pixels have uncompressed."""

PACK_IMAGES: Final = 1024
"""Rows of the manifest whose previews stand in one pack; unreadable ones have none."""

MAX_PACK_BYTES: Final = PACK_IMAGES * MAX_PREVIEW_BYTES
"""Bytes of a pack, at most."""


def encode_preview(image: Image.Image) -> bytes:
    """Return the preview of a decoded image: the whole of it, as a JPEG without metadata.

    Parameters
    ----------
    image
        Mode ``"L"`` or ``"RGB"``; it is not changed.
    """
    longest = max(image.size)
    if longest > PREVIEW_SIDE:
        width, height = (max(1, round(side * PREVIEW_SIDE / longest)) for side in image.size)
        # reducing_gap: whole pixels are averaged first, which is several times as fast
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=PREVIEW_QUALITY)
    return buffer.getvalue()


def check_span(pack: int, offset: int, length: int, what: str) -> None:
    """Refuse a stored place of a preview that no preview of ours has.

    Raises
    ------
    DamagedError
        If it is outside any pack, or longer than `MAX_PREVIEW_BYTES`.
    """
    if pack < 0 or offset < 0 or not 0 < length <= MAX_PREVIEW_BYTES:
        raise DamagedError(
            f"{what} is said to be {length} bytes at {offset} of pack {pack}; expected at most "
            f"{MAX_PREVIEW_BYTES} bytes; ingest again"
        )


def pack_key(folder: str, pack: int) -> str:
    """Return the key of a pack, in a dataset's folder.

    Examples
    --------
    >>> pack_key("datasets/abc", 3)
    'datasets/abc/previews/00003.pack'
    """
    return f"{folder}/previews/{pack:05d}.pack"


def left_out_key(folder: str) -> str:
    """Return the key of what says that this copy of a dataset was made without its previews."""
    return f"{folder}/previews/left-out.json"
