"""What is known of images that were read before: for a dataset, or before an interruption."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from vfs_ops.datasets.dataset import Dataset, folder_of
from vfs_ops.datasets.manifests import decode_parquet, encode_parquet
from vfs_ops.datasets.previews import MAX_PACK_BYTES, check_span, pack_key
from vfs_ops.errors import DamagedError, NotFoundError
from vfs_ops.identity.canonical import document_id
from vfs_ops.store.workspace import Workspace

RECORDS: Final = pa.schema(
    [
        ("uri", pa.string()),
        ("token", pa.string()),  # of the file that was read
        ("digest", pa.binary(32)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bytes", pa.int64()),
        ("label", pa.string()),  # only where the source told it with the image
        ("error", pa.string()),
        ("pack", pa.string()),  # key of the object that the preview is in
        ("offset", pa.int64()),
        ("length", pa.int32()),
    ]
)
"""What reading an image gives, and where its preview is stored."""

_TOKENS: Final = pa.schema([RECORDS.field("token")])

_RANGED_READS: Final = 8
"""Up to so many previews of one pack are read one by one; more by reading the whole pack."""


@dataclass(frozen=True)
class Known:
    """Records of images that were read before, by URI."""

    table: pa.Table
    index: dict[str, int]
    tokens: list[str]

    def find(self, uri: str, token: str) -> int | None:
        """Return the row of the record of an unchanged image; None if it has to be read."""
        row = self.index.get(uri)
        return row if row is not None and token and self.tokens[row] == token else None


@dataclass(frozen=True)
class Staging:
    """Keeps finished batches of one ingest in the workspace, until its dataset is committed."""

    workspace: Workspace
    prefix: str
    run: str
    """Distinguishes this run's batches from those of another at the same time."""

    @classmethod
    def of(cls, workspace: Workspace, origin: dict[str, Any]) -> Staging:
        """Return the staging place of a source, told by what is needed to open it."""
        key = document_id({"kind": "staging", "origin": origin})[:32]
        return cls(workspace, f"staging/{key}", secrets.token_hex(6))

    def pack_key(self, batch: int) -> str:
        """Return the key of the object with the previews of a batch of this run."""
        return f"{self.prefix}/{self.run}-{batch:05d}.pack"

    def store(self, batch: int, records: pa.Table, previews: bytes) -> None:
        """Store a batch, previews first: its records count once they are there."""
        if previews:
            self.workspace.create(self.pack_key(batch), previews)
        key = f"{self.prefix}/{self.run}-{batch:05d}.parquet"
        self.workspace.create(key, encode_parquet(records))

    def stored(self) -> list[str]:
        """Return the names of all stored objects of this source, of earlier runs too."""
        return self.workspace.names(self.prefix)

    def records(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Read the records of stored batches; what is damaged is as if it were not there."""
        for name in names:
            if name.endswith(".parquet"):
                table = _optional_records(self.workspace, f"{self.prefix}/{name}")
                if table is not None and table.schema.equals(RECORDS):
                    yield table

    def delete(self, names: Sequence[str]) -> None:
        """Delete some objects of this source, and all of this run's."""
        own = [name for name in self.stored() if name.startswith(self.run)]
        for name in {*names, *own}:
            self.workspace.delete(f"{self.prefix}/{name}")


def known_records(tables: Iterable[pa.Table]) -> Known:
    """Return records by URI; the last of a URI counts."""
    table = pa.concat_tables([RECORDS.empty_table(), *tables]).combine_chunks()
    index = {uri: row for row, uri in enumerate(table["uri"].to_pylist())}
    return Known(table, index, table["token"].to_pylist())


def records_of(dataset: Dataset) -> pa.Table:
    """Return the records of a finished dataset; none if its change tokens are not there."""
    key = f"{folder_of(dataset.id)}/stat.parquet"
    stat = _optional_records(dataset.workspace, key)
    if stat is None or stat.schema != _TOKENS or stat.num_rows != dataset.count:
        return RECORDS.empty_table()
    own = ["uri", "digest", "width", "height", "bytes", "error"]
    table = dataset.table([*own, "preview_pack", "preview_offset", "preview_length"])
    keys = [
        None if pack is None else pack_key(folder_of(dataset.id), pack)
        for pack in table["preview_pack"].to_pylist()
    ]
    columns = {name: table[name] for name in own} | {
        "token": stat["token"],
        "label": pa.nulls(table.num_rows, pa.string()),
        "pack": pa.array(keys, pa.string()),
        "offset": table["preview_offset"],
        "length": table["preview_length"],
    }
    return pa.table({name: columns[name] for name in RECORDS.names}, schema=RECORDS)


def gather_previews(
    workspace: Workspace, previous: Dataset | None, records: pa.Table
) -> list[bytes]:
    """Read the previews of some records from where they are stored; empty where there is none."""
    spans: dict[str, list[tuple[int, int, int]]] = {}
    found = [b""] * records.num_rows
    columns = (records[name].to_pylist() for name in ("pack", "offset", "length"))
    for row, (key, offset, length) in enumerate(zip(*columns, strict=True)):
        if key is not None and offset is not None and length is not None:
            check_span(0, offset, length, f"{key}: a preview")
            spans.setdefault(key, []).append((row, offset, length))
    for key, parts in spans.items():
        place = workspace
        if previous is not None and not key.startswith("staging/"):
            place = previous.workspace
        whole = place.read(key, most=MAX_PACK_BYTES) if len(parts) > _RANGED_READS else None
        for row, start, length in parts:
            stop = start + length
            data = place.read(key, start, stop) if whole is None else whole[start:stop]
            if len(data) != length:
                raise DamagedError(f"{place.url}/{key} is cut off; run again with rehash")
            found[row] = data
    return found


def _optional_records(workspace: Workspace, key: str) -> pa.Table | None:
    try:
        return decode_parquet(workspace.read(key), key)
    except (NotFoundError, DamagedError):
        return None
