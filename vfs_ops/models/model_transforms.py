"""Preprocessing that torchvision and timm keep as metadata of their weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from vfs_ops.errors import SpecError
from vfs_ops.identity.preprocessing import Color, Interpolation, Preprocessing, Resize

_INTERPOLATIONS: Final[Mapping[str, Interpolation]] = {
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
}
_COLORS: Final[Mapping[int, Color]] = {1: "gray", 3: "rgb"}


def from_torchvision(transform: Any, reference: str) -> Preprocessing:
    """Return what torchvision's ``ImageClassification`` preset does to a Pillow image.

    Antialiasing is always on: torchvision ignores its own option on Pillow images.

    Parameters
    ----------
    transform
        What ``weights.transforms()`` returned.
    reference
        Names the model in messages.

    Raises
    ------
    SpecError
        If it is another preset (segmentation, detection, video); give `preprocessing` then.
    """
    from torchvision.transforms._presets import ImageClassification

    if not isinstance(transform, ImageClassification):
        raise SpecError(
            f"the weights of {reference} come with {type(transform).__name__} transforms, which "
            "end in no fixed size; give preprocessing"
        )
    return Preprocessing(
        resize=_resize(
            reference, "short", tuple(transform.resize_size), transform.interpolation.value
        ),
        crop=_square(transform.crop_size),
        mean=tuple(float(value) for value in transform.mean),
        std=tuple(float(value) for value in transform.std),
    )


def from_timm(config: Mapping[str, Any], reference: str) -> Preprocessing:
    """Return what timm's evaluation transform does for a data configuration.

    Parameters
    ----------
    config
        What ``timm.data.resolve_model_data_config`` returned.
    reference
        Names the model in messages.

    Raises
    ------
    SpecError
        If it pads borders with colour, resizes to other than the short side of a square, or wants
        other than 1 or 3 channels; give `preprocessing` then.
    """
    channels, height, width = config["input_size"]
    mode = config["crop_mode"]
    # What timm.data.create_transform does: https://github.com/huggingface/pytorch-image-models,
    # transforms_factory.transforms_imagenet_eval.
    scaled = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    if channels not in _COLORS or mode not in ("center", "squash"):
        raise SpecError(
            f"{reference} is meant for {channels} channels and crop mode {mode!r}; only 1 or 3 "
            "channels and 'center' or 'squash' are known; give preprocessing"
        )
    if mode == "center" and height != width:
        raise SpecError(
            f"{reference} is meant for {height}×{width} pixels, cropped from an image resized by "
            "the side that fits worse, which is not known here; give preprocessing"
        )
    resize_mode, size = ("exact", scaled) if mode == "squash" else ("short", scaled[:1])
    return Preprocessing(
        resize=_resize(reference, resize_mode, size, config["interpolation"]),
        crop=None if mode == "squash" and scaled == (height, width) else (height, width),
        color=_COLORS[channels],
        mean=tuple(float(value) for value in config["mean"]),
        std=tuple(float(value) for value in config["std"]),
    )


def _resize(reference: str, mode: Any, size: tuple[int, ...], interpolation: str) -> Resize:
    if interpolation not in _INTERPOLATIONS:
        raise SpecError(
            f"{reference} is meant for {interpolation!r} interpolation; expected one of "
            f"{', '.join(_INTERPOLATIONS)}; give preprocessing"
        )
    return Resize(mode, size, _INTERPOLATIONS[interpolation])


def _square(size: list[int]) -> tuple[int, int]:
    return (size[0], size[0]) if len(size) == 1 else (size[0], size[1])
