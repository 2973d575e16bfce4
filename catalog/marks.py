"""What is said of an entry later: aliases that move, and deprecations. Records like entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Final, Self, TypeVar

from catalog.entries import EntryType
from vfs_ops.errors import DamagedError, InvalidNameError
from vfs_ops.identity.canonical import FORMATS, canonical_json, check_format, check_name

LATEST = "latest"
"""The alias that every name has: its newest version. It moves by itself."""

MOST_REASON: Final = 1000
"""Characters of the reason of a deprecation."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What aliases and deprecations have in common, and how they are stored."""

    kind: ClassVar[str]
    """Of the record."""
    folder: ClassVar[str]
    """Below ``catalog/``."""

    type: EntryType
    name: str
    version: int
    """What it is said of."""
    created: str
    """ISO 8601 in UTC."""
    by: str
    number: int = 1
    """Which of the name's records of this kind; the last one of an alias, or of a deprecated
    version, counts."""

    @property
    def said(self) -> Mapping[str, Any]:
        """What it says, by whomever and whenever."""
        return {k: v for k, v in asdict(self).items() if k not in ("created", "by", "number")}

    @property
    def key(self) -> str:
        """The key of the record."""
        return f"{self.place(self.type, self.name)}/{self.number:05d}.json"

    @classmethod
    def place(cls, kind: EntryType, name: str) -> str:
        """Return the folder of a name's records."""
        return f"catalog/{cls.folder}/{kind}s/{name}"

    def document(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"kind": self.kind, "format": FORMATS[self.kind], **asdict(self)}

    def encode(self) -> bytes:
        """Return the record's bytes."""
        return canonical_json(self.document())

    @classmethod
    def from_document(cls, document: object, what: str) -> Self:
        """Read back what `document` wrote; fields that are not known are left out.

        Raises
        ------
        NewerFormatError, DamagedError
            If it cannot be read.
        """
        from catalog.schema import check_mark

        if not isinstance(document, Mapping):
            raise DamagedError(f"{what} is no JSON object; set the {cls.kind} again")
        check_format(document, cls.kind, what)
        check_mark(cls.kind, document, what)
        return cls(**{item.name: document[item.name] for item in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class Alias(Mark):
    """From this record on, ``name@alias`` is a certain version."""

    kind = "alias"
    folder = "aliases"

    alias: str

    def sentence(self) -> str:
        """Return what to tell people."""
        return f"{self.name}@{self.alias} is {self.name}@{self.version}"

    @classmethod
    def from_document(cls, document: object, what: str) -> Self:
        """See `Mark.from_document`; ``name@3`` is a version whatever a record says."""
        read = super().from_document(document, what)
        try:
            check_alias_name(read.alias)
        except InvalidNameError as error:
            raise DamagedError(f"{what}: {error}") from error
        return read


@dataclass(frozen=True, kw_only=True)
class Deprecation(Mark):
    """From this record on, a version should not be used any more."""

    kind = "deprecation"
    folder = "deprecations"

    reason: str
    successor: str | None
    """``name@version`` in the same catalog, of what to use instead."""

    def sentence(self) -> str:
        """Return what to tell whoever uses it."""
        instead = f"; use {self.successor} instead" if self.successor else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.type} {self.name}@{self.version} is deprecated{reason}{instead}"


AnyMark = TypeVar("AnyMark", bound=Mark)


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
