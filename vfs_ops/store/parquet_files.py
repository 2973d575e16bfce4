"""Reading Parquet files of unknown provenance: what they decode to is bounded before it is made.

A few bytes can claim any number of rows, and dictionary and run-length encoding let one long text
stand in every row. So text is read as a dictionary, and spelled out only if it is not too long.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vfs_ops.errors import DamagedError

ROW_GROUP_ROWS: Final = 16_384
"""Rows that are written, and so read and decompressed, together."""

MAX_GROUP_BYTES: Final = 2**30
"""Bytes that a row group may claim or decode to."""

MAX_WRITTEN_BYTES: Final = 2**28
"""Bytes in Arrow's memory of `ROW_GROUP_ROWS` rows that may be written; far below what may be read,
since Parquet stores small integers as larger ones."""

MAX_FOOTER_BYTES: Final = 2**26
"""Bytes that a footer may claim: that of ten million rows has a few MB."""

_BATCH_ROWS: Final = 1024
_TAIL_BYTES: Final = 2**16
"""What is read first: most footers lie wholly in it."""
_LENGTH_BYTES: Final = 8
"""Of the footer's length and the mark behind it."""
_MARK: Final = b"PAR1"


@contextlib.contextmanager
def damage(what: str) -> Iterator[None]:
    """Turn what Arrow raises on a corrupt file into a `DamagedError`.

    Arrow reads through `Folder.read`, which raises typed errors itself; any other is about content.
    """
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DamagedError(
            f"{what} cannot be read ({error}); ingest again, or copy it again from where it came"
        ) from error


def open_footer(file: Any, what: str) -> pq.FileMetaData:
    """Read the footer of a Parquet file, and check the sizes that it claims.

    Raises
    ------
    DamagedError
        If it is no Parquet file, is inconsistent, or claims more than one of ours ever has.
    """
    with damage(what):
        footer = _read_footer(file, what)
        names = footer.schema.to_arrow_schema().names
        groups = [footer.row_group(place) for place in range(footer.num_row_groups)]
        rows = [group.num_rows for group in groups]
        sound = len(set(names)) == len(names) and sum(rows) == footer.num_rows
        sound = sound and all(0 < count <= ROW_GROUP_ROWS for count in rows)
        # never group.column(): on a damaged footer it ends the process (PyArrow 26)
        sound = sound and all(group.num_columns == len(footer.schema) for group in groups)
        sound = sound and all(0 <= group.total_byte_size <= MAX_GROUP_BYTES for group in groups)
    if not sound:
        raise DamagedError(
            f"{what} claims sizes that no file of ours has; ingest again, or copy it again from "
            "where it came"
        )
    return footer


def _read_footer(file: Any, what: str) -> pq.FileMetaData:
    """Read a footer, of no other length than one of ours can have."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(min(size, _TAIL_BYTES))
    length = int.from_bytes(tail[-_LENGTH_BYTES:-4], "little")
    if length > MAX_FOOTER_BYTES:
        raise DamagedError(
            f"{what} claims a footer of {length:,} bytes; up to {MAX_FOOTER_BYTES:,} are read; "
            "ingest again, or copy it again from where it came"
        )
    whole = length + _LENGTH_BYTES
    if whole > len(tail):
        file.seek(max(0, size - whole))
        tail = file.read(min(size, whole))
    return pq.ParquetFile(pa.BufferReader(_MARK + tail[-whole:])).metadata


def read_groups(
    file: Any, footer: pq.FileMetaData, groups: Sequence[int], names: Sequence[str], what: str
) -> pa.Table:
    """Read some columns of some row groups, and check every value.

    Parameters
    ----------
    file
        To read from.
    footer
        As `open_footer` gave it.
    groups
        Numbers of row groups, in the order wanted.
    names
        Of columns, in the order wanted.
    what
        The file's name, for errors.

    Raises
    ------
    DamagedError
        If it cannot be decoded, is not what the footer says, or decodes to too much.
    """
    schema = pa.schema([footer.schema.to_arrow_schema().field(name) for name in names])
    columns = [footer.schema.column(place) for place in range(len(footer.schema))]
    texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    left, batches = MAX_GROUP_BYTES * max(1, len(groups)), []
    with damage(what):
        parquet = pq.ParquetFile(file, metadata=footer, read_dictionary=texts, pre_buffer=False)
        # Arrow's own threads would still hold a Python file while the interpreter ends.
        found = parquet.iter_batches(_BATCH_ROWS, list(groups), list(names), use_threads=False)
        for batch in found:
            columns = [batch.column(name) for name in names]
            left -= sum(_decoded_bytes(column) for column in columns)
            if left < 0:
                raise DamagedError(f"{what} decodes to more than a row group may have")
            arrays = [col.cast(kind) for col, kind in zip(columns, schema.types, strict=True)]
            batches.append(pa.record_batch(arrays, schema=schema))
        table = pa.Table.from_batches(batches, schema)
        table.validate(full=True)
    if table.num_rows != sum(footer.row_group(group).num_rows for group in groups):
        raise DamagedError(f"{what} has {table.num_rows} rows, which is not what its footer says")
    return table


def _decoded_bytes(column: pa.Array) -> int:
    """Return the bytes that an array takes once its dictionary is spelled out."""
    while pa.types.is_list(column.type):
        column = column.flatten()
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary).cast(pa.int64())
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0)
