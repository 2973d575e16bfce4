"""The record that a shard is finished, one by one and all together."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, Final, Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vfs_ops.caches.plans import Plan
from vfs_ops.errors import DamagedError
from vfs_ops.identity.canonical import FORMATS, canonical_json, check_format, is_id, parse_json
from vfs_ops.store.parquet_files import ROW_GROUP_ROWS, open_footer, read_groups

MAX_TABLE_BYTES: Final = 1 << 30
"""No table of all receipts is read or written that is larger: some million shards."""

_REASON_BYTES: Final = 1 << 15  # why a row is invalid: a URI of 4,096 characters, and a line
_AT_ONCE: Final = 256  # receipts that are Python objects at a time


@dataclass(frozen=True)
class Receipt:
    """What one finished shard holds, how long it took and where it was made."""

    shard: int
    start: int
    """First row."""
    stop: int
    """One past the last row."""
    inputs: str
    """Digest of all that the values depend on; see `vfs_ops.identity.spec.shard_inputs`."""
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
    device: str = ""
    """What computed it, with the library's version; empty in receipts that do not tell. Equal
    devices on one host compute equal bits."""
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
            and isinstance(self.device, str)
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
        values["device"] = document.get("device", "")
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
        "device": text,
        "format": number,
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


class ReceiptTable(Sequence[Receipt]):
    """Receipts that are Python objects only while they are looked at.

    The receipts of 20,000 shards take some megabytes so, and a hundred as objects.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        return f"<ReceiptTable: {len(self)} receipts>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReceiptTable) and bool(self._table.equals(other._table))

    def __hash__(self) -> int:
        return hash(len(self))

    @overload
    def __getitem__(self, place: int) -> Receipt: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Receipt, ...]: ...
    def __getitem__(self, place: int | slice) -> Receipt | tuple[Receipt, ...]:
        if isinstance(place, slice):
            return tuple(self[number] for number in range(*place.indices(len(self))))
        if not -len(self) <= place < len(self):
            raise IndexError(f"receipt {place} of {len(self)}")
        return next(self._receipts(place % len(self), 1))

    def __iter__(self) -> Iterator[Receipt]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._receipts(start, _AT_ONCE)

    def feature_bytes(self) -> NDArray[np.int64]:
        """Return the size of every shard's features object, in order."""
        # what Arrow itself turns into NumPy's takes pandas: more memory than 20,000 receipts
        chunks = self._table["feature_bytes"].chunks
        parts = [
            np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset :][: len(chunk)]
            for chunk in chunks
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _receipts(self, start: int, count: int) -> Iterator[Receipt]:
        for row in self._table.slice(start, count).to_pylist():
            if len(row["invalid_rows"]) != len(row["invalid_reasons"]):
                raise DamagedError(
                    f"the receipt of shard {row['shard']} gives not every invalid row a reason; "
                    "run verify"
                )
            pairs = tuple(zip(row["invalid_rows"], row["invalid_reasons"], strict=True))
            yield Receipt._from_values({**row, "invalid": pairs})


def most_receipt_bytes(plan: Plan) -> int:
    """Return the most bytes that the receipt of a shard has: one of unreadable images is long."""
    return (plan.images_per_shard + 2) * _REASON_BYTES


def most_table_bytes(plan: Plan) -> int:
    """Return the most bytes that the table of all receipts of a cache has."""
    # no receipt is longer in the table than alone
    return min(MAX_TABLE_BYTES, (plan.shard_count + 1) * most_receipt_bytes(plan))


def encode_receipts(receipts: Iterable[Receipt]) -> bytes:
    """Return all receipts of a cache, given in order of shards, as one Parquet file."""
    buffer, schema, upcoming = io.BytesIO(), _schema(), iter(receipts)
    parts: list[pa.RecordBatch] = []
    while some := list(islice(upcoming, _AT_ONCE)):
        rows = [
            {
                **vars(receipt),
                "invalid_rows": [row for row, _ in receipt.invalid],
                "invalid_reasons": [reason for _, reason in receipt.invalid],
            }
            for receipt in some
        ]
        parts.append(pa.RecordBatch.from_pylist(rows, schema))
    table = pa.Table.from_batches(parts, schema)
    pq.write_table(table, buffer, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    return buffer.getvalue()


def decode_receipts(data: bytes, plan: Plan) -> ReceiptTable:
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
    stored = set(footer.schema.to_arrow_schema().names)
    names = [name for name in schema.names if name in stored or name != "device"]
    missing = set(names) - stored
    if missing:
        raise DamagedError(f"{what} has no column {sorted(missing)[0]}; run verify")
    groups = range(footer.num_row_groups)
    table = read_groups(pa.BufferReader(data), footer, groups, names, what)
    if "device" not in names:  # written before receipts told it
        place = schema.names.index("device")
        empty = pa.array([""] * table.num_rows, pa.string())
        table = table.add_column(place, schema.field("device"), empty)
    if table.schema.types != schema.types or any(column.null_count for column in table.columns):
        raise DamagedError(f"{what} holds values of other types than receipts have; run verify")
    return ReceiptTable(table)
