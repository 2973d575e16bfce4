"""The probe: feature maps of one fixed image, which tell whether two extractors compute alike.

A weights fingerprint says nothing about the code of a model. So a cache keeps the feature map of a
synthetic image through the whole path (decoding rules, resize, crop, normalisation, model), and
whoever queries it or resumes its build compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from vfs_ops.errors import ExtractorMismatchError
from vfs_ops.identity.spec import CachePrecision, Precision, lowest_precision
from vfs_ops.images.decoding import decode_pixels
from vfs_ops.models.extract import FeatureExtractor

PROBE_SIZE: Final = (480, 360)
"""Width and height of the probe image, in pixels."""

TOLERANCES: Final[Mapping[Precision, tuple[float, float]]] = MappingProxyType(
    {"float32": (0.999, 0.05), "float16": (0.98, 0.2), "bfloat16": (0.98, 0.2)}
)
"""Least cosine similarity, and largest relative difference of norms, of the cells of two probes
that agree. EfficientNet-Lite0 in bfloat16 is off by up to 0.006 and 0.06 from float32."""

_FAINT: Final = 0.01  # of the mean norm: below, a cell is rounding noise and has no direction


def probe_image() -> Image.Image:
    """Return the probe image: gradients, stripes, a disc and noise; RGB, 480×360.

    Made of integers alone, so that it is the same everywhere.
    """
    width, height = PROBE_SIZE
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    stripes = (x + 2 * y) // 16 % 2 * 96
    red = x * 255 // (width - 1)
    green = y * 159 // (height - 1) + stripes
    blue = 255 - (x + y) * 255 // (width + height - 2)
    pixels = np.stack([red, green, blue], axis=-1)
    disc = (x - 330) ** 2 + (y - 130) ** 2 < 80**2
    pixels[disc] = (230, 60, 30)
    pixels[230:340, 40:200] = _noise(110, 160)
    return Image.fromarray(pixels.astype(np.uint8))


def probe(extractor: FeatureExtractor) -> list[npt.NDArray[np.float32]]:
    """Return the feature maps of the probe image.

    Returns
    -------
    list of numpy.ndarray
        Per layer of the extractor float32 of shape (grid y, grid x, channels).
    """
    pixels = extractor.prepare(decode_pixels(probe_image()))
    return [features[0] for features in extractor.features(pixels[np.newaxis])]


def check_probe(
    stored: npt.NDArray[Any],
    now: npt.NDArray[Any],
    what: str,
    precision: CachePrecision = "float32",
) -> None:
    """Compare a stored probe with one made now.

    In every cell the vectors must have the cosine similarity and the norms that `TOLERANCES` ask
    for, but for cells that are fainter than a hundredth of the mean norm in both. That lets other
    devices, library versions and precisions pass, and stops another activation or normalisation.

    Parameters
    ----------
    stored, now
        Of shape (grid y, grid x, channels), of any float dtype.
    what
        Names the extractor and the cache in the message.
    precision
        The lower of the precisions that the two were computed in.

    Raises
    ------
    ExtractorMismatchError
        If they differ, or either holds values that are not finite.
    """
    min_cosine, max_change = TOLERANCES[lowest_precision(precision)]
    advice = (
        "use the model code that the cache was built with; a module that was changed on purpose "
        "needs another name"
    )
    if stored.shape != now.shape:
        raise ExtractorMismatchError(
            f"{what}: the probe has shape {now.shape}; the cache has {stored.shape}; {advice}"
        )
    ours, theirs = now.astype(np.float64), stored.astype(np.float64)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ExtractorMismatchError(
            f"{what}: the probe holds values that are not finite; expected finite features; "
            "compute in float32, or choose another layer"
        )
    norms, stored_norms = np.linalg.norm(ours, axis=-1), np.linalg.norm(theirs, axis=-1)
    faint = _FAINT * stored_norms.mean()
    clear = np.maximum(norms, stored_norms) > faint
    products = (ours * theirs).sum(axis=-1)[clear]
    cosine = products / np.maximum(norms * stored_norms, np.finfo(np.float64).tiny)[clear]
    change = np.abs(norms - stored_norms)[clear] / np.maximum(norms, stored_norms)[clear]
    lowest, largest = cosine.min(initial=1.0), change.max(initial=0.0)
    if lowest < min_cosine or largest > max_change:
        raise ExtractorMismatchError(
            f"{what}: the features of the probe image differ from the cache's (lowest cosine "
            f"{lowest:.4f}, expected {min_cosine}; norms by {largest:.1%}, expected at most "
            f"{max_change:.0%}), though weights and preprocessing agree; {advice}"
        )


def _noise(height: int, width: int) -> npt.NDArray[np.int64]:
    # A multiplicative hash of the position (Knuth's constant), modulo 2³².
    index = np.arange(height * width * 3, dtype=np.uint64)
    mixed = (index + np.uint64(1)) * np.uint64(2_654_435_761) % np.uint64(2**32)
    mixed = (mixed ^ (mixed >> np.uint64(15))) * np.uint64(2_246_822_519) % np.uint64(2**32)
    return (mixed >> np.uint64(24)).astype(np.int64).reshape(height, width, 3)
