"""The record that a shard is finished, one by one and all together."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from vfs_ops.canonical import FORMAT_VERSION, canonical_json, check_format, is_id, parse_json
from vfs_ops.errors import DamagedError


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
    invalid: tuple[tuple[int, str], ...]
    """Rows that can never be a hit, each with the reason."""
    seconds: float
    """From the first image read to the last byte written."""
    host: str
    """Where it was made."""
    finished: str
    """When, ISO 8601 in UTC."""

    def __post_init__(self) -> None:
        sound = (
            all(
                type(n) is int and n >= 0
                for n in (self.shard, self.start, self.stop, self.feature_bytes)
            )
            and self.start < self.stop
            and all(is_id(text) for text in (self.inputs, self.features, self.sq_norm, self.valid))
            and all(self.start <= row < self.stop for row, _ in self.invalid)
        )
        if not sound:
            raise DamagedError(f"the receipt of shard {self.shard!r} is malformed; run verify")

    def encode(self) -> bytes:
        """Return the receipt as a small JSON object."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return canonical_json({"kind": "receipt", "format": FORMAT_VERSION, **values})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read back what `encode` wrote.

        Raises
        ------
        DamagedError
            If it is no receipt.
        NewerFormatError
            If it is of a newer format.
        """
        document = parse_json(data, "a receipt")
        check_format(document, "a receipt")
        return cls._from_values(document)

    @classmethod
    def _from_values(cls, document: Mapping[str, Any]) -> Self:
        values = {key: value for key, value in document.items() if key not in ("kind", "format")}
        if set(values) != {field.name for field in fields(cls)}:
            raise DamagedError(f"a receipt has fields {sorted(values)}; run verify on this cache")
        try:
            invalid = tuple((int(row), str(reason)) for row, reason in values["invalid"])
        except (TypeError, ValueError) as error:
            raise DamagedError(f"a receipt's list of invalid rows is malformed: {error}") from error
        return cls(**{**values, "invalid": invalid})


def encode_receipts(receipts: Iterable[Receipt]) -> bytes:
    """Return all receipts of a cache as one Parquet file, in order of shards."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            **{field.name: getattr(receipt, field.name) for field in fields(receipt)},
            "invalid": [{"row": row, "reason": reason} for row, reason in receipt.invalid],
        }
        for receipt in sorted(receipts, key=lambda receipt: receipt.shard)
    ]
    invalid = pa.list_(pa.struct([("row", pa.int64()), ("reason", pa.string())]))
    kinds = {"int": pa.int64(), "str": pa.string(), "float": pa.float64()}
    schema = pa.schema(
        [(field.name, kinds.get(str(field.type), invalid)) for field in fields(Receipt)]
    )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer, compression="zstd")
    return buffer.getvalue()


def decode_receipts(data: bytes) -> list[Receipt]:
    """Read back what `encode_receipts` wrote.

    Raises
    ------
    DamagedError
        If it is no Parquet file of receipts.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(io.BytesIO(data)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(f"receipts.parquet cannot be read ({error}); run verify") from error
    return [
        Receipt._from_values(
            {**row, "invalid": [(item["row"], item["reason"]) for item in row["invalid"] or []]}
        )
        for row in rows
    ]
