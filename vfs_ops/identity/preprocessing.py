"""Every step from decoded pixels to a model's input, as a document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from vfs_ops.errors import SpecError
from vfs_ops.identity.document_fields import check_choice, check_size, numbers_of, take_fields

Color = Literal["rgb", "gray"]
ResizeMode = Literal["short", "exact"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Resize:
    """One resize step, in pixels."""

    mode: ResizeMode
    """``short``: the shorter side becomes ``size[0]`` and the longer follows, rounded down.
    ``exact``: height and width become ``size``, whatever the proportions."""
    size: tuple[int, ...]
    """``(side,)`` for ``short``; ``(height, width)`` for ``exact``."""
    interpolation: Interpolation = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        check_choice("resize mode", self.mode, ResizeMode)
        check_choice("interpolation", self.interpolation, Interpolation)
        if type(self.antialias) is not bool:
            raise SpecError(f"antialias is {self.antialias!r}; expected true or false")
        check_size("resize size", self.size, 1 if self.mode == "short" else 2)


@dataclass(frozen=True)
class Preprocessing:
    """Every step from decoded pixels to the model's input, in this order."""

    resize: Resize | None
    crop: tuple[int, int] | None
    """Height and width of a centred crop, padded with zeros where the image is smaller."""
    color: Color = "rgb"
    value_range: tuple[float, float] = (0.0, 1.0)
    """What the pixel values 0 and 255 are mapped to, linearly."""
    mean: tuple[float, ...] | None = None
    """Subtracted per channel, after `value_range`."""
    std: tuple[float, ...] | None = None
    """Divided by per channel, after `mean`."""

    def __post_init__(self) -> None:
        check_choice("color", self.color, Color)
        if self.crop is not None:
            check_size("crop", self.crop, 2)
        elif self.resize is None or self.resize.mode != "exact":
            raise SpecError(
                "preprocessing ends in images of different sizes; expected an exact resize or a "
                "crop; give one of them"
            )
        low, high = self.value_range
        if not -math.inf < low < high < math.inf:
            raise SpecError(f"value_range is {self.value_range}; expected (low, high), low < high")
        for label, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.channels:
                raise SpecError(
                    f"{label} has {len(values)} values for {self.channels} channel(s); "
                    "expected one per channel"
                )
            if values is not None and not all(math.isfinite(value) for value in values):
                raise SpecError(f"{label} is {values}; expected finite numbers")
        if self.std is not None and any(value <= 0 for value in self.std):
            raise SpecError(f"std is {self.std}; expected positive numbers")

    @property
    def channels(self) -> int:
        """Number of channels of the model's input: 3 or 1."""
        return 3 if self.color == "rgb" else 1

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the model's input, in pixels."""
        if self.crop is not None:
            return self.crop
        height, width = self.resize.size  # type: ignore[union-attr]  # checked when made
        return height, width

    def document(self) -> dict[str, Any]:
        """Return the part of the extractor's document that says all of this."""
        resize = None
        if self.resize is not None:
            resize = {
                "mode": self.resize.mode,
                "size": list(self.resize.size),
                "interpolation": self.resize.interpolation,
                "antialias": self.resize.antialias,
            }
        return {
            "resize": resize,
            "crop": None if self.crop is None else list(self.crop),
            "color": self.color,
            "value_range": [float(value) for value in self.value_range],
            "mean": None if self.mean is None else [float(value) for value in self.mean],
            "std": None if self.std is None else [float(value) for value in self.std],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `document` wrote.

        Raises
        ------
        SpecError
            If a field is missing, unknown or of an impossible value.
        """
        values = take_fields(cls, document, "preprocessing")
        resize = values["resize"]
        if resize is not None:
            parts = take_fields(Resize, resize, "resize")
            resize = Resize(**{**parts, "size": numbers_of("resize size", parts["size"], int)})
        crop, mean, std = values["crop"], values["mean"], values["std"]
        low, high = numbers_of("value_range", values["value_range"], float, 2)
        return cls(
            resize=resize,
            crop=None if crop is None else _pair(numbers_of("crop", crop, int, 2)),
            color=values["color"],
            value_range=(low, high),
            mean=None if mean is None else numbers_of("mean", mean, float),
            std=None if std is None else numbers_of("std", std, float),
        )


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]
