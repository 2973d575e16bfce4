"""What the catalog knows about one dataset or cache, and how that is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, get_args

from catalog.about import About
from vfs_ops.errors import DamagedError
from vfs_ops.identity.canonical import FORMATS, canonical_json, check_format, check_name, is_id

EntryType = Literal["dataset", "cache"]

MOST_RECORDS: Final = 99_999
"""Highest version of a name, and highest number of a record of its aliases or deprecations."""

_FIELDS: Final = ("type", "name", "version", "id", "created", "facts", "about", "built")


@dataclass(frozen=True)
class Entry:
    """One immutable record. A newer version of the same name stands beside it, not over it."""

    type: EntryType
    name: str
    version: int
    """From 1; without gaps, but for copies of some versions of another workspace."""
    id: str
    """Dataset id or cache id."""
    created: str
    """ISO 8601 in UTC."""
    facts: Mapping[str, Any]
    """What the dataset or cache itself says; see `catalog.facts`. Facts that this version does not
    know are kept."""
    about: Mapping[str, Any] = field(default_factory=lambda: About().document())
    """What people say; see `About`, and `About.of` to read it."""
    built: Mapping[str, Any] = field(default_factory=dict)
    """``by``: who registered it; ``flow_run``: in which run of a flow, or None."""
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
            and is_id(self.id)
            and isinstance(self.created, str)
            and all(isinstance(each, Mapping) for each in (self.facts, self.about, self.built))
        )
        if not sound:
            raise DamagedError(f"the catalog's entry {self.name!r} is malformed; register it again")

    @property
    def key(self) -> str:
        """The key of the record."""
        return entry_key(self.type, self.name, self.version)

    @property
    def rank(self) -> tuple[int, int]:
        """What orders the versions of a name; the highest is `latest`.

        A cache of a newer version of its dataset comes after those of older ones, whenever it was
        built; then the number counts.
        """
        of_dataset = self.facts["dataset"].get("version", 0) if self.type == "cache" else 0
        return of_dataset, self.version

    @property
    def meaning(self) -> tuple[str, str]:
        """What is registered: the id, and for a cache that of the dataset it is shown with."""
        return self.id, self.facts["dataset"]["id"] if self.type == "cache" else self.id

    @property
    def stands_for(self) -> dict[str, str]:
        """What the name stands for in all of its versions.

        Of a cache: a dataset (by name, so that it may grow), extractor, precision and dtype. What
        the name of a dataset stands for is what people say.
        """
        if self.type == "dataset":
            return {"dataset": self.name}
        names = ("extractor_id", "precision", "dtype")
        shown = {"dataset": self.facts["dataset"]["name"]}
        return shown | {name: self.facts[name] for name in names}

    @property
    def reference(self) -> str:
        """What names this very version: ``name@version``."""
        return f"{self.name}@{self.version}"

    def document(self) -> dict[str, Any]:
        """Return what is stored."""
        return {
            **self.more,
            "kind": "entry",
            "format": self.format,
            **{name: getattr(self, name) for name in _FIELDS},
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
        DamagedError
            If it is no entry.
        """
        from catalog.schema import check_entry

        if not isinstance(document, Mapping):
            raise DamagedError(f"{what} is no JSON object; register it again")
        version = check_format(document, "entry", what)
        check_entry(document, what)
        known = {name: document[name] for name in _FIELDS}
        others = (*_FIELDS, "kind", "format")
        more = {name: value for name, value in document.items() if name not in others}
        return cls(**known, more=more, format=version)


def entry_key(kind: EntryType, name: str, version: int) -> str:
    """Return the key of one record."""
    return f"catalog/{kind}s/{name}/{version:05d}.json"
