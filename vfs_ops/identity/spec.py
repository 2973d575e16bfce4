"""Frozen documents that name things, and the ids made of them.

An id is the SHA-256 of a canonical JSON document that is stored beside what it names. A document
holds neither secrets nor local paths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Literal, Self

from vfs_ops.errors import NewerFormatError, SpecError
from vfs_ops.identity.canonical import FORMATS, check_format, document_id, is_id
from vfs_ops.identity.document_fields import check_choice, mapping_of, take_fields
from vfs_ops.identity.preprocessing import Preprocessing

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

Axes = Literal["nchw", "nhwc", "tokens"]
Precision = Literal["float32", "bfloat16", "float16"]
CachePrecision = Literal["float32", "bfloat16", "float16", "unknown"]
"""As `Precision`; ``unknown`` for features that somebody else computed, and that were imported."""
StoredDtype = Literal["float16", "float32"]


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
        check_choice("axes", self.axes, Axes)
        if self.output is not None and type(self.output) not in (int, str):
            raise SpecError(f"output is {self.output!r}; expected a number, a name or none")
        if not is_id(self.weights):
            raise SpecError(f"weights fingerprint is {self.weights!r}; expected 64 hex digits")
        if self.prefix_tokens < 0 or (self.prefix_tokens and self.axes != "tokens"):
            raise SpecError(f"prefix_tokens is {self.prefix_tokens} with axes {self.axes!r}")

    @cached_property
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
        values = take_fields(cls, values, "extractor")
        for key, kind in (("model", str), ("weights", str), ("layer", str), ("prefix_tokens", int)):
            if type(values[key]) is not kind:
                raise SpecError(f"extractor {key} is {values[key]!r}; expected {kind.__name__}")
        preprocessing = Preprocessing.from_document(values["preprocessing"])
        return cls(**{**values, "preprocessing": preprocessing}, format=version)


def lowest_precision(*precisions: CachePrecision) -> Precision:
    """Return the lowest of some precisions.

    An unknown one does not count: an imported cache agrees with float32, or is not imported, and
    its probe is computed in float32 by whoever imports it.
    """
    known: list[Precision] = [each for each in precisions if each != "unknown"]
    order: tuple[Precision, ...] = ("bfloat16", "float16", "float32")
    return min(known, key=order.index, default="float32")


@dataclass(frozen=True)
class CacheSpec:
    """All feature maps of one dataset's images under one extractor."""

    images: str
    """Images id."""
    extractor: ExtractorSpec
    precision: CachePrecision = "float32"
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
        check_choice("precision", self.precision, CachePrecision)
        check_choice("dtype", self.dtype, StoredDtype)
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
        values = take_fields(cls, values, "cache")
        extractor = ExtractorSpec.from_document(mapping_of("extractor", values["extractor"]))
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
