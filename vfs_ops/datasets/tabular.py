"""Reading CSV and Parquet files that describe images. Their content is untrusted."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from vfs_ops.errors import SourceError
from vfs_ops.store.locations import Folder
from vfs_ops.store.urls import SOURCE_PROTOCOLS, normalize_url

PATH_COLUMNS: Final = ("uri", "url", "path", "file", "filename", "image")
"""Names that the column of paths may have; the first that is there counts."""

DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}


def is_table_name(name: str) -> bool:
    """Tell by a file's name whether it is a table that can be read."""
    return name.lower().endswith((*DELIMITERS, ".parquet"))


def split_url(text: str) -> tuple[Folder, str]:
    """Return the folder and the name of a file, given its URL or local path."""
    folder, _, name = normalize_url(text, SOURCE_PROTOCOLS).rpartition("/")
    if not name or folder.endswith(":/"):
        raise SourceError(f"{text!r} names no file in a folder; give the whole path")
    return Folder(folder if not folder.endswith("://") else folder + "/"), name


MAX_TABLE_BYTES: Final = 1 << 32
"""Bytes that a table may have, and in memory a Parquet table may claim."""


def read_table(folder: Folder, name: str, text: Sequence[str] = ()) -> pa.Table:
    """Read a whole CSV, TSV or Parquet file.

    In CSV files empty fields are null, times are ISO 8601, and a column all of whose values are
    JSON lists becomes a list column (boxes).

    Parameters
    ----------
    folder, name
        Where it is.
    text
        Columns to keep as text, beside paths and ``label``: ``007`` is no number there.

    Raises
    ------
    SourceError
        If it is none of these, malformed, or two columns share a name.
    """
    what, data = f"{folder.url}/{name}", folder.read(name, most=MAX_TABLE_BYTES)
    suffix = "." + name.lower().rpartition(".")[2]
    try:
        if suffix == ".parquet":
            table = _read_parquet(data, what)
        elif suffix in DELIMITERS:
            table = _read_csv(data, DELIMITERS[suffix], {*text, *PATH_COLUMNS, "label"})
        else:
            raise SourceError(f"{what} is no table; expected .csv, .tsv or .parquet")
    except (pa.ArrowException, OSError, ValueError, csv.Error) as error:
        raise SourceError(f"{what} cannot be read: {error}; correct the file") from error
    if len(set(table.column_names)) != table.num_columns:
        raise SourceError(f"{what}: two columns have the same name; rename one")
    return table


def find_path_column(table: pa.Table, what: str) -> str:
    """Return the first column named like a path.

    Raises
    ------
    SourceError
        If there is none.
    """
    for name in PATH_COLUMNS:
        if name in table.column_names:
            return name
    raise SourceError(
        f"{what} has columns {', '.join(table.column_names)[:300]}; expected one of "
        f"{', '.join(PATH_COLUMNS)}; say which column holds the paths"
    )


def text_column(table: pa.Table, name: str, what: str) -> list[str | None]:
    """Return a column as text, numbers as they are written, empty text as None.

    Raises
    ------
    SourceError
        If there is no such column, or it is no text or numbers.
    """
    if name not in table.column_names:
        raise SourceError(
            f"{what} has no column {name!r}; it has {', '.join(table.column_names)[:300]}"
        )
    try:
        return [value or None for value in table[name].cast(pa.string()).to_pylist()]
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise SourceError(f"{what}: column {name!r} is no text: {error}") from error


def _read_parquet(data: bytes, what: str) -> pa.Table:
    file = pq.ParquetFile(pa.BufferReader(data))
    groups = (file.metadata.row_group(place) for place in range(file.metadata.num_row_groups))
    claimed = sum(group.total_byte_size for group in groups)
    if claimed > MAX_TABLE_BYTES:
        raise SourceError(
            f"{what} takes {claimed >> 20} MiB in memory; expected at most "
            f"{MAX_TABLE_BYTES >> 20}; drop columns, or split it"
        )
    table = file.read()
    table.validate(full=True)  # text may be no Unicode
    return table


def _read_csv(data: bytes, delimiter: str, text: set[str]) -> pa.Table:
    first = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
    header = next(csv.reader(first, delimiter=delimiter), [])
    table = pacsv.read_csv(
        io.BytesIO(data),
        parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types={name: pa.string() for name in header if name in text},
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    for place, field in enumerate(table.schema):
        if pa.types.is_time(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.string()))
        elif pa.types.is_string(field.type) and field.name not in text:
            lists = _lists(table.column(place).to_pylist())
            if lists is not None:
                table = table.set_column(place, field.name, lists)
    return table


def _lists(values: list[str | None]) -> pa.Array | None:
    if not any(values) or not all(v is None or (v[:1] == "[" and v[-1:] == "]") for v in values):
        return None
    try:
        parsed: list[Any] = [None if value is None else json.loads(value) for value in values]
        return pa.array(parsed)
    except (ValueError, RecursionError, pa.ArrowException):
        return None  # text that looks like lists, and stays text
