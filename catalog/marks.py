"""What is said of an entry later: aliases that move, and deprecations. Records like entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from catalog.entries import EntryType
from vfs_ops.errors import DamagedError, InvalidNameError
from vfs_ops.identity.canonical import FORMATS, canonical_json, check_format, check_name

LATEST = "latest"
"""The alias that every name has: its newest version. It moves by itself."""

MOST_REASON: Final = 1000
"""Characters of the reason of a deprecation."""


@dataclass(frozen=True)
class Alias:
    """From this record on, ``name@alias`` is a certain version."""

    type: EntryType
    name: str
    number: int
    """Which of the name's records of aliases, from 1; the last one of an alias counts."""
    alias: str
    version: int
    created: str
    """ISO 8601 in UTC."""
    by: str

    @property
    def key(self) -> str:
        """The key of the record."""
        return mark_key("alias", self.type, self.name, self.number)

    def document(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"kind": "alias", "format": FORMATS["alias"], **asdict(self)}

    @classmethod
    def from_document(cls, document: object, what: str) -> Self:
        """Read back what `document` wrote; fields that are not known are left out.

        Raises
        ------
        NewerFormatError, DamagedError
            If it cannot be read.
        """
        from catalog.schema import check_alias

        if not isinstance(document, Mapping):
            raise DamagedError(f"{what} is no JSON object; set the alias again")
        check_format(document, "alias", what)
        check_alias(document, what)
        try:
            check_alias_name(document["alias"])  # `name@3` is a version whatever a record says
        except InvalidNameError as error:
            raise DamagedError(f"{what}: {error}") from error
        return cls(**{item.name: document[item.name] for item in fields(cls)})


@dataclass(frozen=True)
class Deprecation:
    """From this record on, a version should not be used any more."""

    type: EntryType
    name: str
    number: int
    """Which of the name's records of deprecations, from 1; the last one of a version counts."""
    version: int
    reason: str
    successor: str | None
    """``name@version`` in the same catalog, of what to use instead."""
    created: str
    """ISO 8601 in UTC."""
    by: str

    @property
    def key(self) -> str:
        """The key of the record."""
        return mark_key("deprecation", self.type, self.name, self.number)

    def document(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"kind": "deprecation", "format": FORMATS["deprecation"], **asdict(self)}

    def sentence(self) -> str:
        """Return what to tell whoever uses it."""
        instead = f"; use {self.successor} instead" if self.successor else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.type} {self.name}@{self.version} is deprecated{reason}{instead}"

    @classmethod
    def from_document(cls, document: object, what: str) -> Self:
        """Read back what `document` wrote; fields that are not known are left out.

        Raises
        ------
        NewerFormatError, DamagedError
            If it cannot be read.
        """
        from catalog.schema import check_deprecation

        if not isinstance(document, Mapping):
            raise DamagedError(f"{what} is no JSON object; deprecate again")
        check_format(document, "deprecation", what)
        check_deprecation(document, what)
        return cls(**{item.name: document[item.name] for item in fields(cls)})


Mark = Alias | Deprecation


def mark_key(kind: str, type_: EntryType, name: str, number: int) -> str:
    """Return the key of a record of an ``alias`` or ``deprecation``."""
    folder = {"alias": "aliases", "deprecation": "deprecations"}[kind]
    return f"catalog/{folder}/{type_}s/{name}/{number:05d}.json"


def encode(mark: Mark) -> bytes:
    """Return the record's bytes."""
    return canonical_json(mark.document())


def check_alias_name(alias: str) -> str:
    """Return `alias` if it can be one.

    Raises
    ------
    InvalidNameError
        If it is malformed, a number, or ``latest``.
    """
    check_name(alias)
    if alias.isdigit() or alias == LATEST:
        raise InvalidNameError(
            f"{alias!r} cannot be an alias: numbers are versions, and {LATEST!r} is always the "
            "newest; choose another"
        )
    return alias
