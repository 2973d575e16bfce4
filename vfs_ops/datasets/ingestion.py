"""`ingest`: from a source of images to a dataset in a workspace; incremental and resumable."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa

from vfs_ops.datasets.dataset import Dataset, folder_of, hint_key, open_dataset
from vfs_ops.datasets.growth import in_earlier_order
from vfs_ops.datasets.manifests import (
    OWN_COLUMNS,
    dataset_document,
    encode_manifest,
    encode_parquet,
    open_manifest,
)
from vfs_ops.datasets.origins import origin_hint
from vfs_ops.datasets.previews import PACK_IMAGES, encode_preview, pack_key
from vfs_ops.datasets.source_kinds import as_source
from vfs_ops.datasets.sources import Listing, Place, Reader, is_remote, opened
from vfs_ops.datasets.staging import (
    RECORDS,
    Known,
    Staging,
    gather_previews,
    known_records,
    records_of,
)
from vfs_ops.errors import ImageError, IncompleteError, NotFoundError
from vfs_ops.identity.canonical import canonical_json, document_id
from vfs_ops.identity.spec import NULL_DIGEST
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.store.workspace import Workspace

BATCH_ROWS: Final = 1024
"""Rows after which what was read is staged; an interrupted ingest need not read it again."""

LOOK_AHEAD: Final = 4
"""Images in flight a thread, so that memory does not grow with the number of images."""

MAX_ERROR_LENGTH: Final = 300

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Read:
    """What a thread returns of one image."""

    token: str
    known: int | None = None
    """Row of the known record, if the image has not changed; all below is unset then."""
    digest: bytes = NULL_DIGEST
    size: tuple[int, int] | None = None
    length: int | None = None
    label: str | None = None
    error: str | None = None
    preview: bytes = b""


def ingest(
    source: Any,
    workspace: Workspace,
    *,
    previous: Dataset | None = None,
    rehash: bool = False,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> Dataset:
    """Read all images of a source once, and store what they are as a dataset.

    What has been read is staged in the workspace, so that after an error or an interruption the
    same call continues where it stopped. An unchanged source gives the same dataset; so does a
    copy of it in another place, and the dataset's images are from then on looked for there.

    Parameters
    ----------
    source
        A source, or what `as_source` makes one of: a path, a URL, a torchvision dataset.
    workspace
        Where the dataset is stored.
    previous
        An earlier dataset of the same source. Its images keep their order, and new ones come at the
        end, so that a build computes these alone. Images whose URI and change token (ETag, or size
        and time) are the same are not read again. If it was last ingested from elsewhere, its
        records say nothing of these images, and all are read.
    rehash
        Read all images, whatever is known of them.
    threads
        For reading and decoding; by default four more than there are processors.
    progress
        Told after each image.

    Returns
    -------
    Dataset

    Raises
    ------
    SourceError
        If the source is empty or malformed.
    StorageError, NotFoundError
        If an image cannot be read, or the dataset not written. An image that can be read and not
        decoded, or a remote URL that leads nowhere, is no error: its row says why.
    """
    threads = threads or min(32, (os.cpu_count() or 1) + 4)
    listing = as_source(source).listing()
    if previous is not None:
        listing = in_earlier_order(listing, previous)
    staging = Staging.of(workspace, listing.origin)
    names = staging.stored()
    earlier: list[pa.Table] = []
    if not rehash:
        if previous is not None and previous.came_from(listing.origin):
            earlier.append(records_of(previous))
        earlier.extend(staging.records(names))
    known = known_records(earlier)
    records = _read_all(listing, known, staging, threads, progress or silent)
    dataset = _commit(workspace, listing, records, previous)
    staging.delete(names)
    return dataset


def _read_all(
    listing: Listing, known: Known, staging: Staging, threads: int, progress: ProgressCallback
) -> pa.Table:
    """Return the records of all rows, reading the images that are not known."""
    count = listing.table.num_rows
    finished: list[pa.Table] = []
    batch: list[tuple[Place, _Read]] = []
    tasks = ((listing.reader, known, place, token) for place, token in listing.places())
    for row, result in enumerate(_in_order(_read_one, tasks, threads)):
        batch.append(result)
        if len(batch) == BATCH_ROWS or row == count - 1:
            finished.append(_finish_batch(batch, len(finished), known, staging))
            batch = []
        progress(Progress("ingest", row + 1, count, "images"))
    return pa.concat_tables(finished)


def _in_order(
    function: Callable[..., _Result], tasks: Iterable[tuple[Any, ...]], threads: int
) -> Iterator[_Result]:
    """Call a function on threads, a bounded number of calls ahead; yield results in order."""
    waiting: deque[Future[_Result]] = deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="vfs-ingest")
    try:
        for task in tasks:
            waiting.append(executor.submit(function, *task))
            if len(waiting) >= threads * LOOK_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _read_one(reader: Reader, known: Known, place: Place, token: str | None) -> tuple[Place, _Read]:
    try:
        return place, _read_present(reader, known, place, token)
    except NotFoundError as error:
        if not is_remote(place.uri):
            raise
        # Links die; a row of a table of URLs that leads nowhere is asked for again next time.
        return place, _Read(token or "", error=str(error)[:MAX_ERROR_LENGTH])


def _read_present(reader: Reader, known: Known, place: Place, token: str | None) -> _Read:
    if token is None:
        stat = reader.stat(place)
        token, place = stat.token, Place(place.uri, stat.size, place.byte_offset)
    row = known.find(place.uri, token)
    if row is not None:
        return _Read(token, known=row)
    size, label = place.size, None
    try:
        content = reader.fetch(place)
        size = len(content.data) if isinstance(content.data, bytes) else None
        label = content.label
        digest, image = opened(content)
    except ImageError as error:
        return _Read(token, length=size, label=label, error=str(error)[:MAX_ERROR_LENGTH])
    return _Read(token, None, digest, image.size, size, label, None, encode_preview(image))


def _finish_batch(
    batch: list[tuple[Place, _Read]], number: int, known: Known, staging: Staging
) -> pa.Table:
    """Stage what was read, and return the records of all rows of the batch, in order."""
    pack, offset = staging.pack_key(number), 0
    fresh: list[dict[str, Any]] = []
    previews: list[bytes] = []
    for place, read in batch:
        if read.known is None:
            fresh.append(_record(place, read, pack, offset))
            previews.append(read.preview)
            offset += len(read.preview)
    table = pa.Table.from_pylist(fresh, RECORDS)
    if fresh:
        staging.store(number, table, b"".join(previews))
    reused = [read.known for _, read in batch if read.known is not None]
    # the records stand with the fresh ones first; back to the order of the rows
    order, next_fresh, next_reused = [], 0, len(fresh)
    for _, read in batch:
        if read.known is None:
            order.append(next_fresh)
            next_fresh += 1
        else:
            order.append(next_reused)
            next_reused += 1
    both = pa.concat_tables([table, known.table.take(pa.array(reused, pa.int64()))])
    return both.take(pa.array(order, pa.int64()))


def _record(place: Place, read: _Read, pack: str, offset: int) -> dict[str, Any]:
    width, height = read.size or (None, None)
    has_preview = bool(read.preview)
    return {
        "uri": place.uri,
        "token": read.token,
        "digest": read.digest,
        "width": width,
        "height": height,
        "bytes": read.length,
        "label": read.label,
        "error": read.error,
        "pack": pack if has_preview else None,
        "offset": offset if has_preview else None,
        "length": len(read.preview) if has_preview else None,
    }


def _commit(
    workspace: Workspace, listing: Listing, records: pa.Table, previous: Dataset | None
) -> Dataset:
    """Write the dataset, its document last; if it exists, only what tells how to read it again."""
    table = _manifest_table(listing, records)
    document = dataset_document(table)
    dataset_id = document_id(document)
    folder = folder_of(dataset_id)
    finished = _is_finished(workspace, dataset_id)
    if not finished:
        _write_manifest(workspace, f"{folder}/manifest.parquet", table)
        try:
            _write_packs(workspace, folder, records, previous)
        except NotFoundError:
            # another ingest of the source finished first, and deleted what both had staged
            finished = _is_finished(workspace, dataset_id)
            if not finished:
                raise
    hints = {
        hint_key(dataset_id): canonical_json(origin_hint(listing.origin, workspace)),
        f"{folder}/stat.parquet": encode_parquet(records.select(["token"])),
    }
    for key, data in hints.items():
        if workspace.read_optional(key) != data:  # a nightly ingest of the same writes nothing
            workspace.replace(key, data)
    if not finished:
        workspace.create(f"{folder}/dataset.json", canonical_json(document))
    return open_dataset(workspace, dataset_id)


def _is_finished(workspace: Workspace, dataset_id: str) -> bool:
    try:
        open_dataset(workspace, dataset_id)
    except NotFoundError:
        return False
    return True


def _manifest_table(listing: Listing, records: pa.Table) -> pa.Table:
    listed = listing.table
    lengths = records["length"].fill_null(0).to_numpy().astype(np.int64)
    missing = records["length"].is_null().to_numpy()
    packs = np.arange(len(lengths)) // PACK_IMAGES
    starts = np.cumsum(lengths) - lengths
    offsets = starts - starts[packs * PACK_IMAGES]
    labels = listed["label"]
    columns = {
        "uri": listed["uri"],
        "label": records["label"] if labels.null_count == len(labels) else labels,
        "preview_pack": pa.array(packs, pa.int32(), mask=missing),
        "preview_offset": pa.array(offsets, pa.int64(), mask=missing),
        "preview_length": records["length"],
    }
    columns |= {name: records[name] for name in ("digest", "width", "height", "bytes", "error")}
    table = pa.table({name: columns[name] for name in OWN_COLUMNS.names}, schema=OWN_COLUMNS)
    for name in listed.column_names:
        if name not in OWN_COLUMNS.names:
            table = table.append_column(name, listed[name])
    return table


def _write_packs(
    workspace: Workspace, folder: str, records: pa.Table, previous: Dataset | None
) -> None:
    for pack, start in enumerate(range(0, records.num_rows, PACK_IMAGES)):
        part = records.slice(start, PACK_IMAGES)
        data = b"".join(gather_previews(workspace, previous, part))
        workspace.create(pack_key(folder, pack), data)


def _write_manifest(workspace: Workspace, key: str, table: pa.Table) -> None:
    if workspace.create(key, encode_manifest(table)):
        return
    # Of an interrupted commit, or another process's. Any mix of their packs and ours will do, as
    # long as the previews, and so their places, are the same.
    names = ["preview_pack", "preview_offset", "preview_length"]
    if not open_manifest(workspace, key).read(names).equals(table.select(names)):
        raise IncompleteError(
            f"{workspace.url}/{key} is of an unfinished dataset, written with another version of "
            "Pillow; if no other ingest is running, delete that folder and run again"
        )
