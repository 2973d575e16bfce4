"""The manifest of a dataset: its schema, the ids made of it, and its Parquet file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vfs_ops.datasets.metadata import normal_type, rows_digest
from vfs_ops.errors import DamagedError, InputError
from vfs_ops.identity.canonical import FORMATS, document_id
from vfs_ops.identity.spec import NULL_DIGEST, images_document
from vfs_ops.images.decoding import MAX_PIXELS
from vfs_ops.store.parquet_files import (
    MAX_FOOTER_BYTES,
    ROW_GROUP_ROWS,
    open_footer,
    read_groups,
)
from vfs_ops.store.ranged import open_ranged
from vfs_ops.store.workspace import Workspace

OWN_COLUMNS: Final = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),  # relative to the source's root, or remote
        pa.field("digest", pa.binary(32), nullable=False),  # NULL_DIGEST where unreadable
        pa.field("width", pa.int32()),  # pixels, after EXIF; null where unreadable
        pa.field("height", pa.int32()),
        pa.field("bytes", pa.int64()),  # of the file; null for a source without files
        pa.field("label", pa.string()),
        pa.field("error", pa.string()),  # why the image is unreadable, in one line
        pa.field("preview_pack", pa.int32()),  # previews/NNNNN.pack
        pa.field("preview_offset", pa.int64()),  # bytes into the pack
        pa.field("preview_length", pa.int32()),  # bytes
    ]
)
"""Columns of every manifest; metadata columns follow."""

OFFSET_COLUMN: Final = pa.field("byte_offset", pa.int64())
"""Only where images are members of tar shards: where the member's bytes start in its shard."""

LEAST: Final = {
    "width": 1,
    "height": 1,
    "bytes": 0,
    OFFSET_COLUMN.name: 0,
}
"""Lowest values of numbers that are checked when they are read; previews check their own."""

HELD_BYTES: Final = 2**28
"""Of a manifest in memory that is held decoded; a larger one is held as its file."""

RESERVED: Final = frozenset(OWN_COLUMNS.names) | {OFFSET_COLUMN.name}


@dataclass(frozen=True)
class Manifest:
    """A stored manifest, its footer read and checked."""

    workspace: Workspace
    key: str
    size: int
    """Bytes of the Parquet file."""
    footer: pq.FileMetaData
    content: bytes | None = None
    """The whole file, if it is held in memory."""
    table: pa.Table | None = None
    """All rows, if they are."""

    def loaded(self) -> Manifest:
        """Return this manifest in memory, so that rows cost no request.

        It is held decoded, and rows cost no time either, unless that takes more than `HELD_BYTES`.
        """
        whole = replace(self, content=self.workspace.read(self.key, most=self.size))
        tables, left = [self.schema.empty_table()], HELD_BYTES
        for group in range(self.footer.num_row_groups):
            tables.append(whole._read([group], self.schema.names))
            left -= tables[-1].nbytes
            if left < 0:
                return whole
        return replace(self, table=pa.concat_tables(tables).combine_chunks())

    @property
    def loaded_bytes(self) -> int:
        """Bytes that `loaded` takes, about: the file, and what it says that it decodes to."""
        groups = range(self.footer.num_row_groups)
        claimed = sum(int(self.footer.row_group(group).total_byte_size) for group in groups)
        return self.size + min(claimed, HELD_BYTES)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns and their types."""
        return self.footer.schema.to_arrow_schema()

    @property
    def metadata_columns(self) -> list[str]:
        """Names of the columns that are not the manifest's own."""
        return [name for name in self.schema.names if name not in RESERVED]

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read all rows of some columns, in the order asked for; of all columns if None."""
        names = self._check_columns(columns)
        if self.table is not None:
            return self.table.select(names)
        return self._read(range(self.footer.num_row_groups), names)

    def take(self, rows: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Read a few rows, in the order asked for, from the row groups that hold them."""
        names, count = self._check_columns(columns), self.footer.num_rows
        wanted = np.asarray(rows, dtype=np.int64).reshape(-1)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < count):
            raise InputError(
                f"rows {wanted.min()} to {wanted.max()} were asked for; expected 0 to {count - 1}"
            )
        if self.table is not None:
            return self.table.select(names).take(pa.array(wanted))
        sizes = [self.footer.row_group(i).num_rows for i in range(self.footer.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        groups = np.searchsorted(starts, wanted, side="right") - 1
        needed = np.unique(groups)
        if not needed.size:
            return self.schema.empty_table().select(names)
        table = self._read(needed.tolist(), names)
        firsts = np.concatenate([[0], np.cumsum(np.asarray(sizes)[needed])])
        place = np.searchsorted(needed, groups)
        return table.take(pa.array(firsts[place] + wanted - starts[groups]))

    def _check_columns(self, columns: Sequence[str] | None) -> list[str]:
        names: list[str] = self.schema.names
        if columns is None:
            return names
        unknown = [column for column in columns if column not in names]
        if unknown:
            raise InputError(f"no column {unknown[0]!r}; the dataset has {', '.join(names)}")
        return list(columns)

    def _read(self, groups: Sequence[int], names: Sequence[str]) -> pa.Table:
        file = (
            open_ranged(self.workspace, self.key, self.size)
            if self.content is None
            else pa.BufferReader(self.content)
        )
        what = f"{self.workspace.url}/{self.key}"
        if not {"width", "height"} & set(names):
            return _check_values(read_groups(file, self.footer, groups, names, what), what)
        sizes = [name for name in ("digest", "width", "height") if name not in names]
        table = read_groups(file, self.footer, groups, [*names, *sizes], what)
        _check_sizes(_check_values(table, what), what)
        return table.select(names)


def _check_values(table: pa.Table, what: str) -> pa.Table:
    """Refuse numbers of the manifest's own columns that can mean nothing."""
    for name, least in LEAST.items():
        if name in table.column_names:
            lowest = pc.min(table[name]).as_py()
            if lowest is not None and lowest < least:
                raise DamagedError(f"{what}: {name} {lowest} is below {least}; ingest again")
    return table


def _check_sizes(table: pa.Table, what: str) -> None:
    """Refuse images without a size, or larger than any that is decoded."""
    readable = pc.not_equal(table["digest"], pa.scalar(NULL_DIGEST, table["digest"].type))
    for name in ("width", "height"):
        if not pc.all(pc.equal(table[name].is_valid(), readable), min_count=0).as_py():
            raise DamagedError(
                f"{what}: {name} is missing, or of an unreadable image; ingest again"
            )
    pixels = pc.multiply(table["width"].cast(pa.int64()), table["height"].cast(pa.int64()))
    largest = pc.max(pixels).as_py()
    if largest is not None and largest > MAX_PIXELS:
        raise DamagedError(f"{what}: an image of {largest} pixels is claimed; ingest again")


def open_manifest(workspace: Workspace, key: str) -> Manifest:
    """Read the footer of a stored manifest, and check the manifest's own columns.

    Raises
    ------
    NotFoundError, DamagedError, StorageError
        If it is not there, is no manifest, or cannot be read.
    """
    what = f"{workspace.url}/{key}"
    size = workspace.stat(key).size
    footer = open_footer(open_ranged(workspace, key, size), what)
    claimed = sum(footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))
    if size > claimed + MAX_FOOTER_BYTES:
        raise DamagedError(
            f"{what} has {size:,} bytes, for rows that take {claimed:,}; ingest again, or mirror "
            "it again"
        )
    schema = footer.schema.to_arrow_schema()
    missing = [name for name in OWN_COLUMNS.names if name not in schema.names]
    if missing:
        raise DamagedError(f"{what} has no column {missing[0]}; ingest again")
    for field in schema:
        expected = _expected_field(field)
        nulls = field.nullable and not expected.nullable
        if field.type != expected.type or nulls:
            raise DamagedError(
                f"{what}: column {field.name[:100]!r} is {str(field)[:100]}; expected "
                f"{str(expected)[:100]}; ingest again"
            )
    return Manifest(workspace, key, size, footer)


def _expected_field(field: pa.Field) -> pa.Field:
    if field.name in OWN_COLUMNS.names:
        return OWN_COLUMNS.field(field.name)
    if field.name == OFFSET_COLUMN.name:
        return OFFSET_COLUMN
    return pa.field(field.name, normal_type(field.type) or pa.string())


def encode_manifest(table: pa.Table) -> bytes:
    """Return a manifest as a Parquet file: zstd, row groups of `ROW_GROUP_ROWS`."""
    return encode_parquet(table, ROW_GROUP_ROWS)


def encode_parquet(table: pa.Table, row_group_rows: int = ROW_GROUP_ROWS) -> bytes:
    """Return a table as the bytes of a Parquet file, compressed with zstd."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=row_group_rows, compression="zstd")
    return sink.getvalue()


def decode_parquet(data: bytes, what: str) -> pa.Table:
    """Read a whole small Parquet file of the workspace.

    Raises
    ------
    DamagedError
        If it is none.
    """
    file = io.BytesIO(data)
    footer = open_footer(file, what)
    names = footer.schema.to_arrow_schema().names
    return read_groups(file, footer, range(footer.num_row_groups), names, what)


def dataset_document(table: pa.Table) -> dict[str, Any]:
    """Return the canonical document whose digest is the dataset id.

    Parameters
    ----------
    table
        A whole manifest. Sizes and previews are in no id, nor is how Parquet stores the rows.
    """
    metadata = [name for name in table.column_names if name not in RESERVED]
    digests = (digest.as_py() for digest in _values(table["digest"]))
    return {
        "kind": "dataset",
        "format": FORMATS["dataset"],
        "images": document_id(images_document(digests)),
        "count": table.num_rows,
        "columns": column_types(table.schema),
        "rows": rows_digest(table, metadata),
    }


def column_types(schema: pa.Schema) -> list[list[str]]:
    """Return names and types of the metadata columns, as they stand in the dataset's document."""
    # normal_type: lists name their items one way, whichever library wrote them
    return [[f.name, str(normal_type(f.type))] for f in schema if f.name not in RESERVED]


def _values(column: pa.ChunkedArray) -> Iterable[Any]:
    for chunk in column.chunks:
        yield from chunk
