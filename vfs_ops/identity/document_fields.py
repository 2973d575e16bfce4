"""Checks of the fields of stored documents; each raises a `SpecError` that says what it expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from vfs_ops.errors import SpecError


def check_choice(what: str, value: object, choices: Any) -> None:
    """Refuse a value that is none of a Literal's."""
    if not isinstance(value, str) or value not in get_args(choices):
        raise SpecError(f"{what} is {value!r}; expected one of {', '.join(get_args(choices))}")


def check_size(what: str, size: tuple[int, ...], length: int) -> None:
    """Refuse what is not that many whole numbers of pixels."""
    if len(size) != length or not all(type(n) is int and 1 <= n <= 16_384 for n in size):
        raise SpecError(f"{what} is {size!r}; expected {length} whole number(s) from 1 to 16384")


def mapping_of(what: str, value: object) -> Mapping[str, Any]:
    """Return a JSON object; refuse anything else."""
    if not isinstance(value, Mapping):
        raise SpecError(f"{what} is a {type(value).__name__}; expected an object")
    return value


def take_fields(cls: Any, document: object, what: str) -> dict[str, Any]:
    """Return the fields of a dataclass from a JSON object that has exactly those."""
    mapping = mapping_of(what, document)
    expected, given = {field.name for field in fields(cls)} - {"format"}, set(mapping)
    if expected != given:
        raise SpecError(
            f"{what} has fields {sorted(given)}; expected exactly {sorted(expected)}; "
            "the document was changed, or written by another version"
        )
    return dict(mapping)


def numbers_of(what: str, values: object, kind: type, length: int | None = None) -> tuple[Any, ...]:
    """Return a JSON list of numbers as a tuple of `kind`."""
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
