"""The images of a widget: opened when they are needed, and made small for the browser."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray
from PIL import Image

from vfs_ops.errors import InputError
from vfs_ops.images.decoding import decode_image, decode_pixels
from vfs_ops.images.local_files import open_file

Given = str | Path | bytes | Image.Image | NDArray[Any]
ImageLike = Given | Callable[[], Given]
"""A local file, its bytes, a Pillow image, an array, or a function that returns one of these."""

SHOWN_SIDE: Final = 1600
"""Longest side of a picture that is sent to the browser, in pixels; masks have the image's own."""
THUMBNAIL_SIDE: Final = 112
_KEPT: Final = 4


class Pictures:
    """A gallery: named images, of which the last few are kept decoded.

    Parameters
    ----------
    images
        One image, or several.
    names
        One each; the file's name where there is one, if not given.
    """

    def __init__(
        self, images: ImageLike | Sequence[ImageLike], names: Sequence[str] | None = None
    ) -> None:
        several = isinstance(images, Sequence) and not isinstance(images, str | bytes)
        self._given: list[ImageLike] = list(images) if several else [images]  # type: ignore[arg-type, list-item]
        if not self._given:
            raise InputError("there is no image to show; give at least one")
        if names is None:
            names = [
                given.name if isinstance(given, Path) else _name(given) for given in self._given
            ]
        if len(names) != len(self._given):
            raise InputError(f"{len(names)} names for {len(self._given)} images; give one each")
        self.names = [str(name) for name in names]
        self._kept: OrderedDict[int, tuple[Given, Image.Image]] = OrderedDict()
        self._lock = threading.Lock()  # cells, requests and searches run on threads of their own

    def __len__(self) -> int:
        return len(self._given)

    def original(self, number: int) -> Given:
        """Return an image as it was given: what `vfs_ops.query_from_image` takes."""
        return self._open(number)[0]

    def image(self, number: int) -> Image.Image:
        """Return an image, decoded and upright.

        Raises
        ------
        ImageError
            If it cannot be decoded.
        NotFoundError
            If there is no such file.
        """
        return self._open(number)[1]

    def _open(self, number: int) -> tuple[Given, Image.Image]:
        if not 0 <= number < len(self):
            raise InputError(f"image {number} is asked for; there are 0 to {len(self) - 1}")
        with self._lock:
            if number not in self._kept:
                given = self._given[number]
                self._kept[number] = _decoded(given() if callable(given) else given)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(number)
            return self._kept[number]


def as_jpeg(image: Image.Image, side: int) -> bytes:
    """Return an image as a JPEG of at most `side` pixels a side."""
    shown = image.convert("RGB")
    shown.thumbnail((side, side))
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _decoded(given: Given) -> tuple[Given, Image.Image]:
    if isinstance(given, str | Path):
        return open_file(given)
    if isinstance(given, bytes):
        return given, decode_image(given)
    return given, decode_pixels(given)


def _name(given: ImageLike) -> str:
    return Path(given).name if isinstance(given, str | Path) else ""
