"""The record that a shard is finished, one by one and all together."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from vfs_ops.canonical import FORMATS, canonical_json, check_format, is_id, parse_json
from vfs_ops.errors import DamagedError
from vfs_ops.parquet_files import ROW_GROUP_ROWS, open_footer, read_groups
from vfs_ops.plans import Plan


@dataclass(frozen=True)
class Receipt:
    """What one finished shard holds, how long it took and where it was made."""

    shard: int
    start: int
    """First row."""
    stop: int
    """One past the last row."""
    inputs: str
    """Digest of all that the values depend on; see `vfs_ops.spec.shard_inputs`."""
    features: str
    """SHA-256 of the stored object, as are the next two."""
    sq_norm: str
    valid: str
    feature_bytes: int
    """Size of the features object."""
    chunk_checksums: tuple[int, ...]
    """CRC-32C of every chunk of the features, as stored, so that each can be checked alone."""
    invalid: tuple[tuple[int, str], ...]
    """Rows that can never be a hit, each with the reason."""
    seconds: float
    """From the first image read to the last byte written."""
    host: str
    """Where it was made."""
    finished: str
    """When, ISO 8601 in UTC."""
    format: int = FORMATS["receipt"]
    """Version of the record."""

    def __post_init__(self) -> None:
        sound = (
            all(
                type(n) is int and n >= 0
                for n in (self.shard, self.start, self.stop, self.feature_bytes)
            )
            and self.start < self.stop
            and all(is_id(text) for text in (self.inputs, self.features, self.sq_norm, self.valid))
            and all(self.start <= row < self.stop for row, _ in self.invalid)
            and all(type(crc) is int and 0 <= crc < 1 << 32 for crc in self.chunk_checksums)
            and type(self.seconds) in (int, float)
            and isinstance(self.host, str)
            and isinstance(self.finished, str)
        )
        if not sound:
            raise DamagedError(f"the receipt of shard {self.shard!r} is malformed; run verify")

    def encode(self) -> bytes:
        """Return the receipt as a small JSON object."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return canonical_json({"kind": "receipt", **values})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read back what `encode` wrote; fields that are not known are left out.

        Raises
        ------
        DamagedError
            If it is no receipt.
        NewerFormatError
            If it is of a newer format.
        """
        document = parse_json(data, "a receipt")
        check_format(document, "receipt", "a receipt")
        invalid = document.get("invalid")
        if not isinstance(invalid, list) or not all(isinstance(pair, list) for pair in invalid):
            raise DamagedError("a receipt lists no invalid rows; run verify on this cache")
        return cls._from_values({**document, "invalid": tuple(map(tuple, invalid))})

    @classmethod
    def _from_values(cls, document: Mapping[str, Any]) -> Self:
        values: dict[str, Any] = {field.name: document.get(field.name) for field in fields(cls)}
        checksums, invalid = values["chunk_checksums"], values["invalid"]
        pairs = all(
            len(pair) == 2 and type(pair[0]) is int and isinstance(pair[1], str) for pair in invalid
        )
        if not isinstance(checksums, list) or not pairs:
            raise DamagedError("a receipt's checksums or invalid rows are malformed; run verify")
        return cls(**{**values, "chunk_checksums": tuple(checksums)})


def _schema() -> pa.Schema:
    text, number = pa.string(), pa.int64()
    columns = {
        "shard": number,
        "start": number,
        "stop": number,
        "inputs": text,
        "features": text,
        "sq_norm": text,
        "valid": text,
        "feature_bytes": number,
        "chunk_checksums": pa.list_(pa.uint32()),
        "invalid_rows": pa.list_(number),
        "invalid_reasons": pa.list_(text),
        "seconds": pa.float64(),
        "host": text,
        "finished": text,
        "format": number,
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def encode_receipts(receipts: Iterable[Receipt]) -> bytes:
    """Return all receipts of a cache as one Parquet file, in order of shards."""
    rows = [
        {
            **vars(receipt),
            "invalid_rows": [row for row, _ in receipt.invalid],
            "invalid_reasons": [reason for _, reason in receipt.invalid],
        }
        for receipt in sorted(receipts, key=lambda receipt: receipt.shard)
    ]
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows, _schema())
    pq.write_table(table, buffer, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    return buffer.getvalue()


def decode_receipts(data: bytes, plan: Plan) -> list[Receipt]:
    """Read back what `encode_receipts` wrote; columns that are not known are left out.

    Parameters
    ----------
    data
        The file.
    plan
        Of the cache; a file with another number of receipts is not decoded.

    Raises
    ------
    DamagedError
        If it is no Parquet file of the receipts of all shards.
    """
    what, schema = f"receipts.parquet of cache {plan.cache[:12]}", _schema()
    footer = open_footer(pa.BufferReader(data), what)
    if footer.num_rows != plan.shard_count:
        raise DamagedError(
            f"{what} holds {footer.num_rows} receipts, not {plan.shard_count}; run verify"
        )
    missing = set(schema.names) - set(footer.schema.to_arrow_schema().names)
    if missing:
        raise DamagedError(f"{what} has no column {sorted(missing)[0]}; run verify")
    groups = range(footer.num_row_groups)
    table = read_groups(pa.BufferReader(data), footer, groups, schema.names, what)
    if table.schema.types != schema.types or any(column.null_count for column in table.columns):
        raise DamagedError(f"{what} holds values of other types than receipts have; run verify")
    receipts = []
    for row in table.to_pylist():
        if len(row["invalid_rows"]) != len(row["invalid_reasons"]):
            raise DamagedError(f"{what} gives not every invalid row a reason; run verify")
        pairs = tuple(zip(row["invalid_rows"], row["invalid_reasons"], strict=True))
        receipts.append(Receipt._from_values({**row, "invalid": pairs}))
    return receipts
