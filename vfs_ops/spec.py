"""Frozen documents that name things, and the ids made of them.

An id is the SHA-256 of a canonical JSON document that is stored beside what it names. A document
holds neither secrets nor local paths.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final, Literal, Self, get_args

from vfs_ops.canonical import FORMATS, check_format, document_id, is_id
from vfs_ops.errors import NewerFormatError, SpecError

NULL_DIGEST: Final = bytes(32)
"""Content digest of an image that could not be read."""

DECODING: Final = MappingProxyType(
    {
        "version": 1,
        "exif": "orientation applied",
        "alpha": "composited over white",
        "cmyk": "converted without profile",
        "sixteen_bit": "divided by 257 and rounded",
        "frames": "first",
    }
)
"""How bytes become pixels. Part of every extractor's identity; a change is a new version."""

Color = Literal["rgb", "gray"]
ResizeMode = Literal["short", "exact"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Axes = Literal["nchw", "nhwc", "tokens"]
Precision = Literal["float32", "bfloat16", "float16"]
StoredDtype = Literal["float16", "float32"]


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
        _check_choice("resize mode", self.mode, ResizeMode)
        _check_choice("interpolation", self.interpolation, Interpolation)
        if type(self.antialias) is not bool:
            raise SpecError(f"antialias is {self.antialias!r}; expected true or false")
        _check_size("resize size", self.size, 1 if self.mode == "short" else 2)


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
        _check_choice("color", self.color, Color)
        if self.crop is not None:
            _check_size("crop", self.crop, 2)
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
        values = _take(cls, document, "preprocessing")
        resize = values["resize"]
        if resize is not None:
            parts = _take(Resize, resize, "resize")
            resize = Resize(**{**parts, "size": _numbers("resize size", parts["size"], int)})
        crop, mean, std = values["crop"], values["mean"], values["std"]
        low, high = _numbers("value_range", values["value_range"], float, 2)
        return cls(
            resize=resize,
            crop=None if crop is None else _pair(_numbers("crop", crop, int, 2)),
            color=values["color"],
            value_range=(low, high),
            mean=None if mean is None else _numbers("mean", mean, float),
            std=None if std is None else _numbers("std", std, float),
        )


@dataclass(frozen=True)
class ExtractorSpec:
    """What turns an image into a feature map, completely enough to be its identity."""

    model: str
    """Architecture: ``torchvision:resnet50``, ``timm:…``, ``efficientnet-lite0``, ``custom:…``."""
    weights: str
    """Fingerprint over every parameter and buffer: 64 hexadecimal digits."""
    layer: str
    """Dotted path of the module whose output is taken; the last call in a forward pass counts."""
    output: int | str | None
    """Which of the layer's outputs, where it returns a sequence or mapping."""
    axes: Axes
    """Order of the layer's axes. ``tokens`` are folded to a grid, row by row."""
    prefix_tokens: int
    """Leading tokens (class, register) that are dropped before folding; 0 unless ``tokens``."""
    preprocessing: Preprocessing
    format: int = FORMATS["extractor"]
    """Version of the document, which the id depends on."""

    def __post_init__(self) -> None:
        _check_choice("axes", self.axes, Axes)
        if self.output is not None and type(self.output) not in (int, str):
            raise SpecError(f"output is {self.output!r}; expected a number, a name or none")
        if not is_id(self.weights):
            raise SpecError(f"weights fingerprint is {self.weights!r}; expected 64 hex digits")
        if self.prefix_tokens < 0 or (self.prefix_tokens and self.axes != "tokens"):
            raise SpecError(f"prefix_tokens is {self.prefix_tokens} with axes {self.axes!r}")

    @property
    def id(self) -> str:
        """The extractor id."""
        return document_id(self.document())

    def document(self) -> dict[str, Any]:
        """Return the canonical document whose digest is the extractor id."""
        return {
            "kind": "extractor",
            "format": self.format,
            "model": self.model,
            "weights": self.weights,
            "layer": self.layer,
            "output": self.output,
            "axes": self.axes,
            "prefix_tokens": self.prefix_tokens,
            "decoding": dict(DECODING),
            "preprocessing": self.preprocessing.document(),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `document` wrote.

        Raises
        ------
        SpecError
            If a field is missing, unknown or of an impossible value.
        NewerFormatError
            If the document is of a newer format, or of newer decoding rules.
        """
        version = check_format(document, "extractor", "an extractor")
        values = dict(document)
        decoding = values.pop("decoding", None)
        if decoding != dict(DECODING):
            raise NewerFormatError(
                f"an extractor decodes images by {decoding!r}; this version by {dict(DECODING)!r}; "
                "upgrade visual-feature-search"
            )
        for key in ("kind", "format"):
            values.pop(key, None)
        values = _take(cls, values, "extractor")
        for key, kind in (("model", str), ("weights", str), ("layer", str), ("prefix_tokens", int)):
            if type(values[key]) is not kind:
                raise SpecError(f"extractor {key} is {values[key]!r}; expected {kind.__name__}")
        preprocessing = Preprocessing.from_document(values["preprocessing"])
        return cls(**{**values, "preprocessing": preprocessing}, format=version)


@dataclass(frozen=True)
class CacheSpec:
    """All feature maps of one dataset's images under one extractor."""

    images: str
    """Images id."""
    extractor: ExtractorSpec
    precision: Precision = "float32"
    """Precision the model computed in."""
    dtype: StoredDtype = "float16"
    """Type the features are stored in."""
    origin: str = "built"
    """``built``, or ``imported:`` and the digest of what was imported."""
    format: int = FORMATS["cache"]
    """Version of the document, which the id depends on."""

    def __post_init__(self) -> None:
        if not is_id(self.images):
            raise SpecError(f"images id is {self.images!r}; expected 64 hex digits")
        _check_choice("precision", self.precision, Precision)
        _check_choice("dtype", self.dtype, StoredDtype)
        if self.origin != "built" and not is_id(self.origin.removeprefix("imported:")):
            raise SpecError(
                f"origin is {self.origin!r}; expected 'built' or 'imported:' and a digest"
            )

    @property
    def id(self) -> str:
        """The cache id."""
        return document_id(self.document())

    def document(self) -> dict[str, Any]:
        """Return the canonical document whose digest is the cache id."""
        return {
            "kind": "cache",
            "format": self.format,
            "images": self.images,
            "extractor": self.extractor.document(),
            "precision": self.precision,
            "dtype": self.dtype,
            "origin": self.origin,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `document` wrote.

        Raises
        ------
        SpecError
            If a field is missing, unknown or of an impossible value.
        NewerFormatError
            If the document is of a newer format.
        """
        version = check_format(document, "cache", "a cache")
        values = {key: value for key, value in document.items() if key not in ("kind", "format")}
        values = _take(cls, values, "cache")
        extractor = ExtractorSpec.from_document(_mapping("extractor", values["extractor"]))
        for key in ("images", "precision", "dtype", "origin"):
            if not isinstance(values[key], str):
                raise SpecError(f"cache {key} is {values[key]!r}; expected text")
        return cls(**{**values, "extractor": extractor}, format=version)


def images_document(digests: Iterable[bytes]) -> dict[str, Any]:
    """Return the document whose digest is the images id.

    Parameters
    ----------
    digests
        Content digests of the images, in order, 32 bytes each; `NULL_DIGEST` where one could not
        be read.
    """
    whole, count = hashlib.sha256(), 0
    for digest in digests:
        if len(digest) != 32:
            raise SpecError(f"a content digest has {len(digest)} bytes; expected 32")
        whole.update(digest)
        count += 1
    return {
        "kind": "images",
        "format": 1,  # part of every dataset's identity: another rule would be another kind
        "count": count,
        "digests": whole.hexdigest(),
    }


def shard_inputs(spec: CacheSpec, digests: Iterable[bytes]) -> str:
    """Return the digest of all that a shard's values depend on.

    Two shards with equal inputs hold equal features, whatever dataset they stand in.

    Parameters
    ----------
    spec
        The cache that the shard belongs to.
    digests
        Content digests of the shard's rows, in order.
    """
    return document_id(
        {
            "kind": "shard",
            "format": 1,
            "extractor": spec.extractor.id,
            "precision": spec.precision,
            "dtype": spec.dtype,
            "origin": spec.origin,
            "images": images_document(digests),
        }
    )


def _check_choice(what: str, value: object, choices: Any) -> None:
    if not isinstance(value, str) or value not in get_args(choices):
        raise SpecError(f"{what} is {value!r}; expected one of {', '.join(get_args(choices))}")


def _check_size(what: str, size: tuple[int, ...], length: int) -> None:
    if len(size) != length or not all(type(n) is int and 1 <= n <= 16_384 for n in size):
        raise SpecError(f"{what} is {size!r}; expected {length} whole number(s) from 1 to 16384")


def _mapping(what: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SpecError(f"{what} is a {type(value).__name__}; expected an object")
    return value


def _take(cls: Any, document: object, what: str) -> dict[str, Any]:
    mapping = _mapping(what, document)
    expected, given = {field.name for field in fields(cls)} - {"format"}, set(mapping)
    if expected != given:
        raise SpecError(
            f"{what} has fields {sorted(given)}; expected exactly {sorted(expected)}; "
            "the document was changed, or written by another version"
        )
    return dict(mapping)


def _numbers(what: str, values: object, kind: type, length: int | None = None) -> tuple[Any, ...]:
    numeric = (int,) if kind is int else (int, float)
    if not isinstance(values, list) or not all(type(value) in numeric for value in values):
        raise SpecError(f"{what} is {values!r}; expected a list of numbers")
    if length is not None and len(values) != length:
        raise SpecError(f"{what} has {len(values)} values; expected {length}")
    try:
        return tuple(kind(value) for value in values)
    except OverflowError as error:
        raise SpecError(
            f"{what} holds a number that is too large; expected sizes of images"
        ) from error


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]
