"""What only people can say of a dataset or cache: whose it is, what for, and under which terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args

from vfs_ops.errors import SpecError

Status = Literal["draft", "active"]

LONGEST: Final = {"owner": 200, "split": 100, "citation": 10_000, "description": 20_000}
LONGEST_LICENCE: Final = 1000


@dataclass(frozen=True)
class Licences:
    """Terms, as SPDX identifiers or in words; empty where nobody has said."""

    images: str = ""
    weights: str = ""
    features: str = ""


@dataclass(frozen=True)
class About:
    """What people say; part of an entry, and like it never changed: a newer version says more.

    Examples
    --------
    >>> About(owner="vision team", licences=Licences(images="CC-BY-4.0")).document()["owner"]
    'vision team'
    """

    owner: str = ""
    """Person or team to ask."""
    description: str = ""
    status: Status = "active"
    """``draft`` until others should rely on it."""
    split: str = ""
    """Which part of a dataset: ``train``, ``val``, …"""
    citation: str = ""
    licences: Licences = field(default_factory=Licences)

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise SpecError(f"status is {self.status!r}; expected one of {get_args(Status)}")
        texts = {name: (getattr(self, name), limit) for name, limit in LONGEST.items()}
        for item in fields(self.licences):
            text = getattr(self.licences, item.name)
            texts[f"licence of {item.name}"] = text, LONGEST_LICENCE
        for name, (text, limit) in texts.items():
            if not isinstance(text, str) or len(text) > limit:
                raise SpecError(f"{name} is {str(text)[:40]!r}…; expected text up to {limit} long")

    def document(self) -> dict[str, Any]:
        """Return what is stored in an entry."""
        return {**vars(self), "licences": dict(vars(self.licences))}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> About:
        """Read back what `document` wrote; fields that this version does not know are left out."""
        known = {item.name: stored[item.name] for item in fields(cls) if item.name in stored}
        given = known.pop("licences", {})
        terms = {item.name: given[item.name] for item in fields(Licences) if item.name in given}
        return cls(**known, licences=Licences(**terms))
