"""Canonical JSON, the ids made of it, and the names and formats that documents may have."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from vfs_ops.errors import DamagedError, InvalidNameError, NewerFormatError, SpecError

FORMATS: Final = MappingProxyType(
    {
        "dataset": 1,
        "extractor": 1,
        "cache": 1,
        "plan": 1,
        "receipt": 1,
        "complete": 1,
        "claim": 1,
        "entry": 1,
        "alias": 1,
        "deprecation": 1,
        "index": 1,
    }
)
"""Newest version of each kind of document, each with a life of its own. What was read keeps the
version it was read with, so that its id stays what it is."""

_DEEPEST: Final = 32

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_ID = re.compile(r"[0-9a-f]{64}")


def canonical_json(document: Mapping[str, Any]) -> bytes:
    """Encode a document so that equal documents give equal bytes.

    Keys are sorted, no white space is written, text is UTF-8, floats are the shortest decimal that
    reads back as the same double, and negative zero is zero.

    Parameters
    ----------
    document
        Nested mappings, lists, tuples, strings, booleans, integers, finite floats and None.

    Returns
    -------
    bytes

    Raises
    ------
    SpecError
        If a value is of another type, not finite, or no valid Unicode.

    Examples
    --------
    >>> canonical_json({"b": 1, "a": [0.5, None]})
    b'{"a":[0.5,null],"b":1}'
    """
    try:
        text = json.dumps(
            _plain(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SpecError(f"text in a document is no valid Unicode: {error}; correct it") from error


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SpecError(f"a document holds {value}; expected a finite number")
        return value + 0.0  # turns -0.0 into 0.0
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise SpecError(f"a document has keys {list(value)!r}; expected text")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise SpecError(f"a document holds a {type(value).__name__}; expected JSON values")


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Parse a stored JSON object.

    Raises
    ------
    DamagedError
        If it is no JSON object, is nested too deep, or holds a number that is not finite.
    """
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{what} is no JSON ({error}); it was changed or cut off") from error
    if not isinstance(document, dict):
        raise DamagedError(f"{what} is a JSON {type(document).__name__}; expected an object")
    level: list[Any] = [document]
    for _ in range(_DEEPEST):
        nested = [value.values() if isinstance(value, dict) else value for value in level]
        level = [item for items in nested for item in items if isinstance(item, dict | list)]
        if not level:
            return document
    raise DamagedError(f"{what} is nested more than {_DEEPEST} deep; it is none of ours")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def document_id(document: Mapping[str, Any]) -> str:
    """Return the id of a document: the SHA-256 of its canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(document)).hexdigest()


def is_id(text: object) -> bool:
    """Tell whether `text` is a full id: 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def check_name(name: str) -> str:
    """Return `name` if it can stand as one part of a key or as a name in the catalog.

    Raises
    ------
    InvalidNameError
        Unless it matches ``[a-z0-9][a-z0-9._-]{0,127}``.
    """
    if _NAME.fullmatch(name) is None:
        shown = name if len(name) <= 60 else name[:57] + "..."
        raise InvalidNameError(
            f"{shown!r} cannot be a name; expected lower-case letters, digits, '.', '_' and '-', "
            "starting with a letter or digit, 128 characters at most; choose another name"
        )
    return name


def check_format(document: Mapping[str, Any], kind: str, what: str) -> int:
    """Return the version of a stored document, and refuse a newer one.

    Parameters
    ----------
    document
        As stored.
    kind
        Which of `FORMATS` it must be.
    what
        Names it in the message.

    Raises
    ------
    NewerFormatError
        If ``document["format"]`` is not a version that is known.
    DamagedError
        If it is of another kind.
    """
    if document.get("kind") != kind:
        raise DamagedError(f"{what} is a {document.get('kind')!r}; expected a {kind!r}")
    version = document.get("format")
    if type(version) is not int or not 1 <= version <= FORMATS[kind]:
        raise NewerFormatError(
            f"{what} has format {str(version)[:20]!r}; this version reads {kind} documents up to "
            f"format {FORMATS[kind]}; upgrade visual-feature-search"
        )
    return version
