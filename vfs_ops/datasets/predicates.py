"""Structured filters on metadata: no text is ever evaluated."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vfs_ops.errors import PredicateError

Condition = tuple[str, str, Any]
Filters = Sequence[Condition] | Sequence[Sequence[Condition]]
"""Conditions joined by AND; or lists of them, joined by OR (the convention of Parquet filters)."""

OPERATORS: Final = ("==", "!=", "<", "<=", ">", ">=", "in", "not in", "contains")

_UNITS: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_ORDER: Final[dict[str, Callable[..., Any]]] = {
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def evaluate(table: pa.Table, filters: Filters | None) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which rows of a table match.

    Parameters
    ----------
    table
        With the columns that the filters name.
    filters
        ``[(column, operator, value), …]``, joined by AND; or a list of such lists, joined by OR.
        None and the empty list match all rows. Operators are `OPERATORS`; ``in`` and ``not in``
        take a list of values; ``contains`` asks whether a list column holds a value. Values are
        numbers, text, booleans, and for times ``datetime`` or ISO 8601 text.

        A null matches nothing, but for ``!=`` and ``not in``, which it always matches: they are the
        negations of ``==`` and ``in``.

    Returns
    -------
    numpy.ndarray
        bool of shape (rows,).

    Raises
    ------
    PredicateError
        If the filters are malformed, a column or operator is unknown, or a value does not fit.

    Examples
    --------
    >>> table = pa.table({"label": ["cat", "dog", None], "year": [2019, 2021, 2023]})
    >>> evaluate(table, [("label", "!=", "cat"), ("year", ">", 2020)]).tolist()
    [False, True, True]
    """
    groups = _groups(filters)
    result = np.zeros(table.num_rows, np.bool_) if groups else np.ones(table.num_rows, np.bool_)
    for group in groups:
        matching = np.ones(table.num_rows, np.bool_)
        for name, operator, value in group:
            _check_column(name, table.column_names)
            matching &= _matches(table[name], name, operator, value)
        result |= matching
    return result


def narrowed(filters: Filters | None, conditions: Sequence[Condition]) -> Filters | None:
    """Return filters that match where the given ones do and all of some conditions hold too.

    Raises
    ------
    PredicateError
        If the filters are malformed.

    Examples
    --------
    >>> narrowed([[("a", "==", 1)], [("b", "==", 2)]], [("c", "<", 3)])
    [[('a', '==', 1), ('c', '<', 3)], [('b', '==', 2), ('c', '<', 3)]]
    """
    if not conditions:
        return filters
    return [[*group, *conditions] for group in _groups(filters) or [[]]]


def columns_of(filters: Filters | None, known: Sequence[str]) -> list[str]:
    """Return the columns that filters name, each once.

    Raises
    ------
    PredicateError
        If the filters are malformed, or a column is not among the known ones.
    """
    names = dict.fromkeys(name for group in _groups(filters) for name, _, _ in group)
    for name in names:
        _check_column(name, known)
    return list(names)


def _groups(filters: Filters | None) -> list[list[Condition]]:
    if filters is None or (isinstance(filters, list | tuple) and not filters):
        return []
    if not isinstance(filters, list | tuple):
        raise _malformed(filters)
    if all(_is_condition(item) for item in filters):
        return [[tuple(item) for item in filters]]
    for group in filters:
        if not isinstance(group, list | tuple) or not all(_is_condition(item) for item in group):
            raise _malformed(group)
    return [[tuple(item) for item in group] for group in filters]


def _is_condition(item: object) -> bool:
    return isinstance(item, list | tuple) and len(item) == 3 and isinstance(item[0], str)


def _malformed(given: object) -> PredicateError:
    return PredicateError(
        f"{str(given)[:100]!r} is no filter; expected a list of (column, operator, value), or a "
        "list of such lists"
    )


def _check_column(name: str, known: Sequence[str]) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, 3, 0.5) or list(known)[:20]
        raise PredicateError(f"no column {name[:100]!r}; did you mean {', '.join(close)}?")


def _matches(column: Any, name: str, operator: object, value: Any) -> Any:
    if operator not in OPERATORS:
        raise PredicateError(f"no operator {operator!r}; expected one of {', '.join(OPERATORS)}")
    if isinstance(value, np.generic | np.ndarray) or hasattr(value, "to_numpy"):
        value = np.asarray(value).tolist()  # as a value taken from a DataFrame is
    if operator == "contains":
        return _contains(column, name, value)
    if pa.types.is_list(column.type):
        raise PredicateError(f"column {name!r} holds lists; use 'contains' instead of {operator!r}")
    if operator in ("in", "not in"):
        if not isinstance(value, list | tuple | set | frozenset):
            raise PredicateError(f"{operator!r} takes a list of values; got {value!r}")
        mask = np.zeros(len(column), np.bool_)
        for item in value:
            mask |= _equal(column, name, item)
        return mask if operator == "in" else ~mask
    if operator in ("==", "!="):
        mask = _equal(column, name, value)
        return mask if operator == "==" else ~mask
    return _ordered(column, name, str(operator), value)


def _contains(column: Any, name: str, value: Any) -> Any:
    if not pa.types.is_list(column.type) or pa.types.is_list(column.type.value_type):
        raise PredicateError(
            f"column {name!r} has type {column.type}; 'contains' needs a column of flat lists"
        )
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # without rows, or too large for one array
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], column.type)
    mask = np.zeros(len(column), np.bool_)
    parents = pc.list_parent_indices(whole).to_numpy()
    mask[parents[_equal(pa.chunked_array([pc.list_flatten(whole)]), name, value)]] = True
    return mask


def _equal(column: Any, name: str, value: Any) -> Any:
    column, value = _comparable(column, name, value)
    if not pa.types.is_integer(column.type):
        return _mask(pc.equal(column, pa.scalar(value, column.type)))
    low, high = _limits(column.type)
    if not low <= value <= high or value != math.floor(value):
        return np.zeros(len(column), np.bool_)
    return _mask(pc.equal(column, pa.scalar(int(value), column.type)))


def _ordered(column: Any, name: str, operator: str, value: Any) -> Any:
    if pa.types.is_boolean(column.type):
        raise PredicateError(f"column {name!r} holds booleans, which {operator!r} does not order")
    column, value = _comparable(column, name, value)
    if not pa.types.is_integer(column.type):
        return _mask(_ORDER[operator](column, pa.scalar(value, column.type)))
    # The nearest integer that decides alike, so that large integers are never rounded to floats.
    low, high = _limits(column.type)
    if operator in ("<", "<="):
        bound = high if value > high else low - 1 if value < low else math.floor(value)
        bound -= operator == "<" and bound == value
        if bound < low:
            return np.zeros(len(column), np.bool_)
        return _mask(pc.less_equal(column, pa.scalar(bound, column.type)))
    bound = low if value < low else high + 1 if value > high else math.ceil(value)
    bound += operator == ">" and bound == value
    if bound > high:
        return np.zeros(len(column), np.bool_)
    return _mask(pc.greater_equal(column, pa.scalar(bound, column.type)))


def _comparable(column: Any, name: str, value: Any) -> tuple[Any, Any]:
    """Return column and value as text, booleans, doubles or exact integers and fractions."""
    kind = column.type
    number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    if pa.types.is_timestamp(kind):
        return column.cast(pa.int64()), _instant(kind, name, value)
    if pa.types.is_integer(kind) and number:
        return column, value
    if pa.types.is_floating(kind) and number:
        try:
            return column.cast(pa.float64()), float(value)
        except OverflowError as error:
            raise PredicateError(f"{value} is too large to compare with {name!r}") from error
    if pa.types.is_boolean(kind) and isinstance(value, bool):
        return column, value
    if pa.types.is_string(kind) and isinstance(value, str):
        return column, value
    raise PredicateError(
        f"column {name!r} has type {kind}, and {value!r} is a {type(value).__name__}; expected a "
        "value of the column's type (nulls cannot be asked for)"
    )


def _instant(kind: Any, name: str, value: Any) -> Fraction:
    """Return a time in the units of a timestamp column, since 1970, exactly."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise PredicateError(f"{value[:60]!r} is no ISO 8601 time: {error}") from error
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise PredicateError(
            f"column {name!r} holds times; expected a datetime or ISO 8601 text, not {value!r}"
        )
    if (kind.tz is None) != (value.tzinfo is None):
        expected = "without a time zone" if kind.tz is None else "with a time zone"
        raise PredicateError(f"column {name!r} has type {kind}; expected a time {expected}")
    since = value - datetime(1970, 1, 1, tzinfo=None if kind.tz is None else UTC)
    return Fraction(since // timedelta(microseconds=1) * _UNITS[kind.unit], 1_000_000)


def _limits(kind: Any) -> tuple[int, int]:
    limits = np.iinfo(kind.to_pandas_dtype())
    return int(limits.min), int(limits.max)


def _mask(compared: Any) -> Any:
    return pc.fill_null(compared, False).to_numpy()
