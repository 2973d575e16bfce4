"""The filters of a search panel: which columns there are, and text from the browser as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vfs_ops.datasets.dataset import Dataset
from vfs_ops.datasets.predicates import OPERATORS, Condition, Filters
from vfs_ops.errors import PredicateError

_CHOICES: Final = 200
"""Values of a column that are offered for choice, at most."""
_ROWS: Final = 200_000
"""Rows of a dataset whose values are looked through for that."""
_WORDS: Final = {
    "==": "is",
    "!=": "is not",
    "in": "is one of",
    "not in": "is none of",
}


def describe_columns(dataset: Dataset) -> list[dict[str, Any]]:
    """Return the columns that a person may filter by.

    Returns
    -------
    list of dict
        ``name``, ``kind`` (``text``, ``number``, ``truth``, ``time``, ``list``), whether it may
        group hits, and the first few ``values`` of text in order.
    """
    names = ["label", *dataset.manifest.metadata_columns, "uri", "width", "height"]
    return [
        {
            "name": name,
            "kind": (kind := _kind(dataset.manifest.schema.field(name).type)),
            "groups": kind != "list" and name != "uri",
            "values": _values(dataset, name) if kind == "text" and name != "uri" else [],
        }
        for name in names
    ]


def filters_in_words(filters: Filters | None) -> str:
    """Return filters as a person reads them; an empty text for none.

    Examples
    --------
    >>> filters_in_words([[("label", "==", "cat")], [("width", ">=", 64), ("year", "in", [1, 2])]])
    'label is cat, or width >= 64 and year is one of 1, 2'
    """
    if not filters:
        return ""
    single = bool(filters[0]) and isinstance(filters[0][0], str)
    groups: Any = [filters] if single else filters
    return ", or ".join(" and ".join(_in_words(*one) for one in group) for group in groups)


def _in_words(name: str, operator: str, value: Any) -> str:
    several = isinstance(value, list | tuple | set)
    text = ", ".join(str(each) for each in value) if several else str(value)
    return f"{name} {_WORDS.get(operator, operator)} {text}"


def read_filters(dataset: Dataset, conditions: Sequence[Any]) -> list[Condition]:
    """Turn what was typed into filters: ``[column, operator, text]`` each.

    Raises
    ------
    PredicateError
        If a column or operator is unknown, or a text is no value of its column.
    """
    found: list[Condition] = []
    for condition in conditions:
        name, operator, text = (str(part) for part in condition)
        if operator not in OPERATORS or name not in dataset.column_names():
            raise PredicateError(
                f"no filter {name[:60]!r} {operator[:20]!r}; choose from the lists"
            )
        kind = dataset.manifest.schema.field(name).type
        if operator in ("in", "not in"):
            parts = [_value(name, kind, part.strip()) for part in text.split(",")]
            found.append((name, operator, parts))
        else:
            found.append((name, operator, _value(name, kind, text.strip())))
    return found


def _value(name: str, kind: pa.DataType, text: str) -> Any:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    try:
        if pa.types.is_boolean(kind):
            return {"true": True, "yes": True, "false": False, "no": False}[text.lower()]
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return int(text) if text.lstrip("+-").isdigit() else float(text)
    except (KeyError, ValueError) as error:
        expected = "yes or no" if pa.types.is_boolean(kind) else "a number"
        raise PredicateError(f"{name} is compared with {text!r}; expected {expected}") from error
    return text


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_nested(kind):
        return "list"
    if pa.types.is_boolean(kind):
        return "truth"
    if pa.types.is_temporal(kind):
        return "time"
    return "number" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else "text"


def _values(dataset: Dataset, name: str) -> list[str]:
    if dataset.count > _ROWS:
        return []
    values = pc.unique(dataset.table([name])[name]).drop_null().to_pylist()
    return sorted(str(value) for value in values)[:_CHOICES] if len(values) <= _CHOICES else []
