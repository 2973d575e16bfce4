"""What queries are made of: opened images, an extractor's layer and probe, what the model sees."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vfs_ops.errors import QueryError
from vfs_ops.images.decoding import content_digest, decode_image, decode_pixels, pixel_digest
from vfs_ops.images.geometry import Frame, PixelMask, shown_box, visible_share
from vfs_ops.images.local_files import open_file

if TYPE_CHECKING:
    from vfs_ops.models.extract import FeatureExtractor

# Whoever queries with an extractor asks for its probe again and again; it is one forward pass.
_probes: WeakKeyDictionary[FeatureExtractor, list[NDArray[np.float32]]] = WeakKeyDictionary()


class RegionCroppedWarning(UserWarning):
    """The model sees less than half of what was highlighted; the rest is not searched for."""


def opened(image: str | Path | bytes | Image.Image | NDArray[Any]) -> tuple[Image.Image, bytes]:
    """Decode an image, upright; returns its content digest, too.

    Raises
    ------
    NotFoundError
        If there is no such file.
    ImageError
        If it cannot be decoded.
    """
    if isinstance(image, str | Path):
        data, decoded = open_file(image)
        return decoded, content_digest(data)
    if isinstance(image, bytes):
        return decode_image(image), content_digest(image)
    decoded = decode_pixels(image)
    return decoded, pixel_digest(decoded)


def layer_number(extractor: FeatureExtractor, layer: str | None) -> int:
    """Return the place of a layer among an extractor's; None stands for its only one.

    Raises
    ------
    QueryError
        If it has no such layer, or several and none is named.
    """
    names = [info.name for info in extractor.infos]
    if layer is None and len(names) == 1:
        return 0
    if layer not in names:
        raise QueryError(
            f"layer is {layer!r}; expected one of the extractor's: {', '.join(names)}; "
            "give the layer of the cache to search"
        )
    return names.index(layer)


def probe_of(extractor: FeatureExtractor) -> list[NDArray[np.float32]]:
    """Return the feature map of the probe image at each layer; computed once an extractor."""
    if extractor not in _probes:
        from vfs_ops.models.probe import probe

        _probes[extractor] = probe(extractor)
    return _probes[extractor]


def visible_part(drawn: PixelMask, frame: Frame, *, whole: bool) -> float:
    """Return which part of what is drawn the model sees.

    Warns
    -----
    RegionCroppedWarning
        If that is less than half, unless the whole image is meant.
    """
    share = visible_share(drawn, frame)
    if share < 0.5 and not whole:
        warnings.warn(
            f"the model sees only {share:.0%} of what is highlighted, and only that is searched "
            f"for: the centre crop leaves pixels {shown_box(frame.visible_box)} of the image; "
            "highlight a part of that, or use a model whose preprocessing does not crop",
            RegionCroppedWarning,
            stacklevel=3,
        )
    return share
