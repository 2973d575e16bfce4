"""The shape of the catalog's records, checked whenever one is read. Slow to import (pydantic).

Fields that a record has beyond these are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from catalog.about import LONGEST, LONGEST_LICENCE
from vfs_ops.errors import DamagedError, SpecError
from vfs_ops.identity.canonical import document_id

_MOST: Final = 2**53  # what a double, and so JavaScript, holds exactly


def _check_time(text: str) -> str:
    datetime.fromisoformat(text)  # a day that there is
    return text


# In Rust's regular expressions, `$` is the very end of the text.
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$")]
Text = Annotated[str, Field(max_length=1000)]
Time = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00$"),
    AfterValidator(_check_time),
]
"""ISO 8601 in UTC, to the second: so that the order of texts is that of times."""
Count = Annotated[int, Field(ge=0, le=_MOST)]
Version = Annotated[int, Field(ge=1, lt=100_000)]
Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]
Pixels = Annotated[float, Field(ge=0, le=_MOST, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class LicencesRecord(_Record):
    """See `catalog.about.Licences`."""

    images: Annotated[str, Field(max_length=LONGEST_LICENCE)] = ""
    weights: Annotated[str, Field(max_length=LONGEST_LICENCE)] = ""
    features: Annotated[str, Field(max_length=LONGEST_LICENCE)] = ""


class AboutRecord(_Record):
    """See `catalog.about.About`; a later version may know other states."""

    owner: Annotated[str, Field(max_length=LONGEST["owner"])] = ""
    description: Annotated[str, Field(max_length=LONGEST["description"])] = ""
    status: Annotated[str, Field(max_length=40)] = "active"
    split: Annotated[str, Field(max_length=LONGEST["split"])] = ""
    citation: Annotated[str, Field(max_length=LONGEST["citation"])] = ""
    licences: LicencesRecord = LicencesRecord()


class BuiltRecord(_Record):
    """Who registered it, and in which run of a flow."""

    by: Annotated[str, Field(max_length=200)] = ""
    flow_run: Annotated[str | None, Field(max_length=200)] = None


class DatasetFacts(_Record):
    """What is known of a dataset; see `catalog.facts`."""

    images: Count
    unreadable: Count
    images_id: Id
    columns: list[str]


class DatasetOfCache(_Record):
    """The dataset whose labels and metadata a cache is shown with.

    ``version`` is the one since which the name means that dataset; 0 if it was not registered,
    or nobody has said.
    """

    name: Name
    id: Id
    version: Annotated[int, Field(ge=0, lt=100_000)] = 0
    split: Annotated[str, Field(max_length=LONGEST["split"])] = ""


class CacheFacts(_Record):
    """What is known of a cache; see `catalog.facts`."""

    dataset: DatasetOfCache
    images: Count
    unreadable: Count
    model: Text
    weights: Text
    weights_fingerprint: Id
    layer: Text
    extractor_id: Id
    grid: Pair
    channels: Count
    stride: Annotated[list[Pixels], Field(min_length=2, max_length=2)]
    input_size: Pair
    precision: Text
    dtype: Text
    origin: Text
    shards: Count
    bytes: Count
    checksum: Id
    finished: Text
    versions: dict[str, str]
    recipe: dict[str, Any]


class _EntryRecord(_Record):
    name: Name
    version: Version
    id: Id
    created: Time
    about: AboutRecord
    built: BuiltRecord


class DatasetEntry(_EntryRecord):
    """An entry of a dataset."""

    type: Literal["dataset"]
    facts: DatasetFacts


class CacheEntry(_EntryRecord):
    """An entry of a cache."""

    type: Literal["cache"]
    facts: CacheFacts


class _MarkRecord(_Record):
    type: Literal["dataset", "cache"]
    name: Name
    number: Version
    version: Version
    created: Time
    by: Text


class AliasRecord(_MarkRecord):
    """See `catalog.marks.Alias`."""

    alias: Name


class DeprecationRecord(_MarkRecord):
    """See `catalog.marks.Deprecation`."""

    reason: Text
    successor: Text | None


def check_entry(document: Mapping[str, Any], what: str) -> None:
    """Refuse what is no entry, and one whose facts contradict its recipe.

    Raises
    ------
    DamagedError
        Naming the field.
    """
    model = CacheEntry if document.get("type") == "cache" else DatasetEntry
    _check(model, document, what)
    if model is CacheEntry:
        _check_recipe(document, what)


def check_mark(kind: str, document: Mapping[str, Any], what: str) -> None:
    """Refuse what is no ``alias``, or no ``deprecation``."""
    _check(AliasRecord if kind == "alias" else DeprecationRecord, document, what)


def _check(model: type[_Record], document: Mapping[str, Any], what: str) -> None:
    try:
        model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DamagedError(f"{what}: {place}: {first['msg']}; register it again") from None


def _check_recipe(document: Mapping[str, Any], what: str) -> None:
    """Refuse a recipe that is not the document whose digest is the id, and facts against it."""
    facts = document["facts"]
    recipe = facts["recipe"]
    try:
        identity = document_id(recipe)
    except SpecError as error:
        raise DamagedError(f"{what}: facts.recipe: {error}; register it again") from error
    if identity != document["id"]:
        raise DamagedError(
            f"{what}: its recipe has digest {identity[:12]} and its id is {document['id'][:12]}; "
            "register it again"
        )
    extractor = recipe.get("extractor")
    extractor = extractor if isinstance(extractor, Mapping) else {}
    says = {name: recipe.get(name) for name in ("precision", "dtype", "origin")}
    says |= {name: extractor.get(name) for name in ("model", "layer")}
    says |= {
        "weights_fingerprint": extractor.get("weights"),
        "extractor_id": document_id(extractor),
    }
    for name, value in says.items():
        if facts[name] != value:
            raise DamagedError(
                f"{what}: facts.{name} is {str(facts[name])[:80]!r} and its recipe says "
                f"{str(value)[:80]!r}; register it again"
            )
