"""Metadata columns of a dataset: their names, types and canonical rows. All of it is untrusted."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, Final

import pyarrow as pa

from vfs_ops.errors import SourceError
from vfs_ops.identity.canonical import canonical_json

MAX_NAME_LENGTH: Final = 200
MAX_COLUMNS: Final = 1000
BATCH_ROWS: Final = 4096
"""Rows that are Python objects at a time while rows are digested."""

_MAX_LIST_DEPTH: Final = 3
_UNCLEAN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # controls, lone surrogates


def normal_metadata(table: pa.Table, reserved: frozenset[str]) -> pa.Table:
    """Bring metadata columns to the types and names that a manifest may have.

    Parameters
    ----------
    table
        Columns of integers, floats, booleans, text or times, or lists of them. Dates become
        timestamps, time zones UTC, half floats floats; dictionaries, text views and fixed-size
        lists become what they stand for; columns of nulls become text.
    reserved
        Names of the manifest's own columns; a metadata column of that name becomes
        ``meta.NAME``.

    Raises
    ------
    SourceError
        If there are too many columns, or one has an impossible name or another type.
    """
    if table.num_columns > MAX_COLUMNS:
        raise SourceError(
            f"{table.num_columns} metadata columns; expected at most {MAX_COLUMNS}; drop some"
        )
    names, columns = [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        check_column_name(name)
        names.append(f"meta.{name}" if name in reserved else name)
        columns.append(_normal_column(name, column))
    if len(set(names)) != len(names):
        raise SourceError("two metadata columns have the same name; rename one")
    return pa.table(columns, names=names) if names else table.select([])


def check_column_name(name: str) -> str:
    """Return `name` if a metadata column may have it.

    Raises
    ------
    SourceError
        Unless it has 1 to `MAX_NAME_LENGTH` printable characters.
    """
    if not 1 <= len(name) <= MAX_NAME_LENGTH or not is_clean_text(name):
        raise SourceError(
            f"{name[:60]!r} cannot be the name of a column; expected 1 to {MAX_NAME_LENGTH} "
            "characters, none a control character; rename the column"
        )
    return name


def is_clean_text(text: str) -> bool:
    """Tell whether text is valid Unicode without control characters."""
    return _UNCLEAN.search(text) is None


def normal_type(kind: pa.DataType, depth: int = 0) -> pa.DataType | None:
    """Return the type that a column of another type is stored as; None if it cannot be."""
    types = pa.types
    if types.is_dictionary(kind):
        return normal_type(kind.value_type, depth)
    if types.is_null(kind) or types.is_string(kind) or types.is_large_string(kind):
        return pa.string()
    if types.is_string_view(kind):
        return pa.string()
    if types.is_float16(kind):
        return pa.float32()  # which Arrow can compare
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return kind
    if types.is_timestamp(kind):  # Parquet knows no seconds, and no time zone but UTC
        unit = "ms" if kind.unit == "s" else kind.unit
        return pa.timestamp(unit, None if kind.tz is None else "UTC")
    if types.is_date(kind):
        return pa.timestamp("ms")
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = normal_type(kind.value_type, depth + 1)
        return None if item is None or depth >= _MAX_LIST_DEPTH else pa.list_(item)
    return None


def rows_digest(table: pa.Table, metadata: list[str]) -> str:
    """Return the SHA-256 over the canonical JSON of each row, in order, a line each.

    Parameters
    ----------
    table
        With columns ``uri``, ``label`` and the metadata columns.
    metadata
        Names of the metadata columns.

    Returns
    -------
    str
        64 hexadecimal digits. It does not depend on how Parquet or Arrow store the rows.
    """
    whole = hashlib.sha256()
    columns = table.select(["uri", "label", *metadata])
    for start in range(0, table.num_rows, BATCH_ROWS):
        for uri, label, values in _rows(columns.slice(start, BATCH_ROWS), metadata):
            row = {"uri": uri, "label": label, "metadata": values}
            whole.update(canonical_json(row) + b"\n")
    return whole.hexdigest()


def _rows(table: pa.Table, metadata: list[str]) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    uris, labels, *columns = (_plain_values(column) for column in table.columns)
    for row, (uri, label) in enumerate(zip(uris, labels, strict=True)):
        yield uri, label, {name: col[row] for name, col in zip(metadata, columns, strict=True)}


def _plain_values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())  # in the unit that the column's type names
    return [_plain(value) for value in column.to_pylist()]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no number for it; the column's type tells it from text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime | date):  # within a list; at the top they are integers
        return value.isoformat()
    return value


def _normal_column(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = normal_type(column.type)
    if kind is None:
        raise SourceError(
            f"column {name!r} has type {column.type}; expected integers, floats, booleans, text, "
            "times or lists of them; convert or drop the column"
        )
    if kind == column.type:
        return column
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        raise SourceError(f"column {name!r} cannot be stored as {kind}: {error}") from error
