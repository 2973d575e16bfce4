"""What the catalog knows about one dataset or cache, and how that is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, get_args

from vfs_ops.canonical import FORMATS, canonical_json, check_format, check_name, is_id
from vfs_ops.errors import DamagedError

EntryType = Literal["dataset", "cache"]

INDEX_KEY: Final = "catalog/index.json"
_FIELDS: Final = ("type", "name", "version", "id", "created", "facts")


@dataclass(frozen=True)
class Entry:
    """One immutable record. A newer version of the same name stands beside it, not over it."""

    type: EntryType
    name: str
    version: int
    """From 1, without gaps."""
    id: str
    """Dataset id or cache id."""
    created: str
    """ISO 8601 in UTC."""
    facts: Mapping[str, Any]
    """What a listing shows, as JSON values, which need not be what this version writes. For a
    cache: dataset, model, layer, grid, …; those that this version does not know are kept."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the record that this version does not know."""
    format: int = FORMATS["entry"]
    """The version that it was written with."""

    def __post_init__(self) -> None:
        check_name(self.name)
        sound = (
            self.type in get_args(EntryType)
            and type(self.version) is int
            and 1 <= self.version < 100_000
            and isinstance(self.id, str)
            and is_id(self.id)
            and isinstance(self.created, str)
            and isinstance(self.facts, Mapping)
        )
        if not sound:
            raise DamagedError(f"the catalog's entry {self.name!r} is malformed; register it again")

    @property
    def key(self) -> str:
        """The key of the record."""
        return entry_key(self.type, self.name, self.version)

    def document(self) -> dict[str, Any]:
        """Return what is stored."""
        return {
            **self.more,
            "kind": "entry",
            "format": self.format,
            "type": self.type,
            "name": self.name,
            "version": self.version,
            "id": self.id,
            "created": self.created,
            "facts": dict(self.facts),
        }

    def encode(self) -> bytes:
        """Return the record's bytes."""
        return canonical_json(self.document())

    @classmethod
    def from_document(cls, document: object, what: str = "an entry of the catalog") -> Self:
        """Read back what `document` wrote.

        Parameters
        ----------
        document
            As stored.
        what
            Names it in messages.

        Raises
        ------
        NewerFormatError
            If it is of a newer format.
        DamagedError, InvalidNameError
            If it is no entry.
        """
        if not isinstance(document, Mapping):
            raise DamagedError(f"{what} is no JSON object; register it again")
        version = check_format(document, "entry", what)
        missing = [name for name in _FIELDS if name not in document]
        if missing or not isinstance(document["name"], str):
            raise DamagedError(f"{what} lacks {missing or 'a name'}; register it again")
        known = {name: document[name] for name in _FIELDS}
        more = {
            name: value
            for name, value in document.items()
            if name not in (*_FIELDS, "kind", "format")
        }
        return cls(**known, more=more, format=version)


def entry_folder(kind: EntryType, name: str = "") -> str:
    """Return the key of the folder of all entries of a kind, or of one name's versions."""
    return "/".join(part for part in ("catalog", f"{kind}s", name) if part)


def entry_key(kind: EntryType, name: str, version: int) -> str:
    """Return the key of one record."""
    return f"{entry_folder(kind, name)}/{version:05d}.json"
