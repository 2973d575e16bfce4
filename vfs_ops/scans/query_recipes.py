"""Queries as small JSON documents that reproduce them: which image, which region, which options.

A recipe is untrusted. It holds numbers, digests and text, all checked; it names no file, and none
is opened for it: who reproduces a query gives the image, or a cache that holds it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import numpy as np

from vfs_ops.errors import NewerFormatError, QueryError
from vfs_ops.identity.canonical import is_id
from vfs_ops.images.decoding import MAX_PIXELS
from vfs_ops.images.geometry import Downsample, PixelMask

FORMAT: Final = 1
_BYTES: Final = 4 << 20
"""Of a recipe, at most."""
_FIELDS: Final = {"kind", "format", "extractor", "image", "region", "search"}


@dataclass(frozen=True)
class QueryRecipe:
    """What makes a query again."""

    extractor: str
    """Id of the extractor that made the features."""
    digest: str
    """Content digest of the image, in hexadecimal."""
    width: int
    """Of the decoded, upright image, in pixels."""
    height: int
    runs: tuple[int, ...]
    """The mask row after row: how many pixels in turn have the same value."""
    values: tuple[int, ...]
    """And which, 0 to 255; one for each of `runs`."""
    downsample: Downsample = "bilinear"
    search: dict[str, Any] = field(default_factory=dict)
    """Options of the search: ``k``, ``where``, ``unique_by``, as far as they were chosen."""

    @classmethod
    def of(
        cls,
        extractor: str,
        digest: bytes,
        mask: PixelMask,
        downsample: Downsample = "bilinear",
        search: dict[str, Any] | None = None,
    ) -> QueryRecipe:
        """Return the recipe of a mask, uint8 ``(height, width)``, 255 inside."""
        flat = mask.ravel()
        starts = np.concatenate([[0], np.flatnonzero(np.diff(flat.astype(np.int16))) + 1])
        runs = np.diff(np.concatenate([starts, [flat.size]]))
        height, width = mask.shape
        return cls(
            extractor,
            digest.hex(),
            width,
            height,
            tuple(runs.tolist()),
            tuple(flat[starts].tolist()),
            downsample,
            search or {},
        )

    @property
    def mask(self) -> PixelMask:
        """What is highlighted, uint8 ``(height, width)``, 255 inside."""
        values = np.array(self.values, np.uint8)
        return np.repeat(values, self.runs).reshape(self.height, self.width)

    def to_json(self) -> str:
        """Return the document."""
        return json.dumps(
            {
                "kind": "query",
                "format": FORMAT,
                "extractor": self.extractor,
                "image": {"sha256": self.digest, "width": self.width, "height": self.height},
                "region": {
                    "runs": list(self.runs),
                    "values": list(self.values),
                    "downsample": self.downsample,
                },
                "search": self.search,
            },
        )


def parse_recipe(text: str | bytes) -> QueryRecipe:
    """Read a recipe, and check all of it.

    Raises
    ------
    QueryError
        If it is none, or holds impossible values; the message names the field.
    NewerFormatError
        If a newer version wrote it.
    """
    if len(text) > _BYTES:
        raise QueryError(f"a recipe of {len(text)} characters was given; expected at most {_BYTES}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QueryError(f"the recipe is no JSON: {error}; save it again") from error
    if not isinstance(document, dict) or document.get("kind") != "query":
        raise QueryError("this is no recipe of a query; expected a document with kind 'query'")
    if not _whole(document.get("format"), 1, 2**31):
        raise _wrong("format", document.get("format"))
    if document["format"] > FORMAT:
        raise NewerFormatError(
            f"the recipe has format {document['format']}; this version reads up to {FORMAT}; "
            "upgrade visual-feature-search"
        )
    if document.keys() != _FIELDS:
        raise _wrong("set of fields", sorted(document.keys() ^ _FIELDS))
    image, region = _object(document, "image"), _object(document, "region")
    for what, value in (("extractor", document["extractor"]), ("sha256", image.get("sha256"))):
        if not is_id(value):
            raise _wrong(what, value)
    width: Any = image.get("width")
    height: Any = image.get("height")
    runs = region.get("runs")
    if not (_whole(width, 1, MAX_PIXELS) and _whole(height, 1, MAX_PIXELS // width)):
        raise _wrong("size of the image", (width, height))
    if not isinstance(runs, list) or not all(_whole(run, 0, width * height) for run in runs):
        raise _wrong("runs", runs)
    if sum(runs) != width * height:
        raise _wrong("sum of the runs", sum(runs))
    values = region.get("values")
    if not isinstance(values, list) or not all(_whole(value, 0, 255) for value in values):
        raise _wrong("values", values)
    if len(values) != len(runs):
        raise _wrong("number of values", len(values))
    if region.get("downsample") not in get_args(Downsample):
        raise _wrong("downsample", region.get("downsample"))
    return QueryRecipe(
        extractor=document["extractor"],
        digest=image["sha256"],
        width=width,
        height=height,
        runs=tuple(runs),
        values=tuple(values),
        downsample=region["downsample"],
        search=_search_options(_object(document, "search")),
    )


def _search_options(given: dict[str, Any]) -> dict[str, Any]:
    """Check the options; filters are checked by whoever evaluates them, and are never code."""
    if given.keys() - {"k", "where", "unique_by"}:
        raise _wrong("set of options", sorted(given))
    options: dict[str, Any] = {}
    if given.get("k") is not None:
        if not _whole(given["k"], 1, 10**6):
            raise _wrong("k", given["k"])
        options["k"] = given["k"]
    if given.get("unique_by") is not None:
        if not isinstance(given["unique_by"], str):
            raise _wrong("unique_by", given["unique_by"])
        options["unique_by"] = given["unique_by"]
    if given.get("where"):
        if not isinstance(given["where"], list):
            raise _wrong("where", given["where"])
        options["where"] = given["where"]
    return options


def _object(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document[name]
    if not isinstance(value, dict):
        raise _wrong(name, value)
    return value


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _wrong(what: str, value: object) -> QueryError:
    return QueryError(f"the recipe's {what} is {repr(value)[:60]}; save the recipe again")
