"""A dataset on the store: its rows, previews and digests, and its images where they are."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image

from vfs_ops.datasets.manifests import OFFSET_COLUMN, Manifest, column_types, open_manifest
from vfs_ops.datasets.origins import origin_hint, original_reader
from vfs_ops.datasets.predicates import Filters, columns_of, evaluate
from vfs_ops.datasets.previews import check_span, left_out_key, pack_key
from vfs_ops.datasets.sources import Files, Place, Reader, Source, opened
from vfs_ops.errors import (
    DamagedError,
    ForbiddenError,
    ImageChangedError,
    ImageError,
    InputError,
    InvalidNameError,
    NotFoundError,
)
from vfs_ops.identity.canonical import canonical_json, check_format, document_id, is_id, parse_json
from vfs_ops.identity.spec import NULL_DIGEST, images_document
from vfs_ops.store.locations import MAX_DOCUMENT_BYTES, Folder
from vfs_ops.store.parquet_files import ROW_GROUP_ROWS
from vfs_ops.store.workspace import Workspace

_FIELDS: Final = {
    "kind": str,
    "format": int,
    "images": str,
    "count": int,
    "columns": list,
    "rows": str,
}
_READER_BLOCKS: Final = 4
"""Row groups of places that an `ImageReader` keeps in memory."""


@dataclass(frozen=True)
class Dataset:
    """An ordered list of images with metadata and previews. Its files never change."""

    workspace: Workspace
    id: str
    document: dict[str, Any] = field(repr=False, compare=False)
    """The canonical document whose digest is `id`."""
    manifest: Manifest = field(repr=False, compare=False)

    @property
    def images_id(self) -> str:
        """Digest of the number of images and their contents, without labels and metadata."""
        return str(self.document["images"])

    @property
    def count(self) -> int:
        """Number of images, unreadable ones included."""
        return int(self.document["count"])

    def column_names(self) -> list[str]:
        """Return the names of the manifest's columns, metadata included."""
        return list(self.manifest.schema.names)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read all rows of some columns; of all columns if None.

        Raises
        ------
        InputError
            If there is no such column.
        """
        return self.manifest.read(columns)

    def rows(self, indices: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Read a few rows, in the order asked for, without reading all others.

        Raises
        ------
        InputError
            If there is no such row or column.
        """
        return self.manifest.take(indices, columns)

    def digests(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Read the content digests, and check that they give the images id.

        Returns
        -------
        numpy.ndarray
            uint8 of shape (images, 32); `NULL_DIGEST` where an image is unreadable.

        Raises
        ------
        DamagedError
            If they do not.
        """
        column = self.table(["digest"])["digest"]
        digests = np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, 32)
        if document_id(images_document(row.tobytes() for row in digests)) != self.images_id:
            raise DamagedError(
                f"the digests in the manifest of dataset {self.id} do not give its images id; "
                "ingest again"
            )
        return digests

    def preview(self, row: int) -> bytes:
        """Read the preview of one image, a JPEG, by one ranged request.

        Raises
        ------
        NotFoundError
            If the image is unreadable, so that it has none, or this copy of the dataset was made
            without previews.
        """
        columns = ["preview_pack", "preview_offset", "preview_length"]
        pack, offset, length = (c[0].as_py() for c in self.rows([row], columns).columns)
        if None in (pack, offset, length):
            raise NotFoundError(f"image {row} has no preview, since it could not be read")
        check_span(pack, offset, length, f"the preview of image {row}")
        try:
            data = self.workspace.read(pack_key(folder_of(self.id), pack), offset, offset + length)
        except (NotFoundError, ForbiddenError) as error:
            key = left_out_key(folder_of(self.id))
            if self.workspace.read_optional(key, most=MAX_DOCUMENT_BYTES) is None:
                raise
            raise NotFoundError(
                f"image {row} has no preview here: this copy of dataset {self.id[:12]} was made "
                "without previews; open the dataset where they are"
            ) from error
        if len(data) != length:
            raise DamagedError(
                f"the preview of image {row} is cut: {len(data)} of {length} bytes; ingest again"
            )
        return data

    def where(self, filters: Filters | None) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which images match filters on their metadata; see `predicates.evaluate`.

        Returns
        -------
        numpy.ndarray
            bool of shape (images,).

        Raises
        ------
        PredicateError
            If a filter names no column, or a value does not fit its column.
        """
        names = columns_of(filters, self.column_names())
        if not names:
            return np.ones(self.count, np.bool_)
        return evaluate(self.table(names), filters)

    def reader(self, images: str | os.PathLike[str] | Source | Reader | None = None) -> ImageReader:
        """Return what reads the images themselves.

        Parameters
        ----------
        images
            Where they are now: a folder or URL, a source as given to `ingest`, or a reader. By
            default where they were when they were ingested; a local folder is looked for only if
            the workspace is on this machine too.

        Raises
        ------
        SourceError
            If it is not known where the images are.
        """
        return ImageReader(self, self._reader(images))

    def _reader(self, images: str | os.PathLike[str] | Source | Reader | None) -> Reader:
        if isinstance(images, str | os.PathLike):
            return Files(Folder.at(os.fspath(images)))
        if images is None:
            return original_reader(self._hint(), self.workspace, self.id)
        return images.listing().reader if isinstance(images, Source) else images

    def came_from(self, origin: dict[str, Any]) -> bool:
        """Tell whether the images were last ingested from an origin, as a `Listing` tells it."""
        hint = canonical_json(origin_hint(origin, self.workspace))
        return self._hint() == hint

    def _hint(self) -> bytes | None:
        return self.workspace.read_optional(hint_key(self.id), most=MAX_DOCUMENT_BYTES)


class ImageReader:
    """Reads images of a dataset, and checks that they are the ones ingested. Thread-safe."""

    def __init__(self, dataset: Dataset, reader: Reader) -> None:
        self._dataset, self._reader = dataset, reader
        names = ["uri", "bytes", "digest", "error"]
        self._offsets = OFFSET_COLUMN.name in dataset.column_names()
        self._columns = [*names, OFFSET_COLUMN.name] if self._offsets else names
        self._blocks: OrderedDict[int, list[list[Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, row: int) -> Image.Image:
        """Read and decode one image, as `images.decode_image` does.

        Raises
        ------
        ImageError
            If it cannot be decoded, or could not be when it was ingested.
        ImageChangedError
            If it is not the image that was ingested.
        InputError
            If there is no such row.
        StorageError, NotFoundError
            If it cannot be read.
        """
        uri, size, digest, error, *offset = self._row(row)
        if digest == NULL_DIGEST:
            raise ImageError(f"{uri}: {error}")
        # the size of a file may have changed; that of a member of a shard says how far to read
        place = Place(uri, size if self._offsets else None, *offset)
        changed = (
            f"{uri} is not the image that was ingested as row {row} of dataset {self._dataset.id}; "
            "restore it, or ingest again"
        )
        try:
            found, image = opened(self._reader.fetch(place))
        except ImageError as failed:
            raise ImageChangedError(changed) from failed
        if found != digest:
            raise ImageChangedError(changed)
        return image

    def digest(self, row: int) -> bytes:
        """Return the content digest of one image, as ingested; `NULL_DIGEST` if unreadable.

        Raises
        ------
        InputError
            If there is no such row.
        """
        return bytes(self._row(row)[2])

    def _row(self, row: int) -> list[Any]:
        if not 0 <= row < self._dataset.count:
            raise InputError(f"image {row} was asked for; expected 0 to {self._dataset.count - 1}")
        block, place = divmod(row, ROW_GROUP_ROWS)
        with self._lock:
            if block not in self._blocks:
                rows = range(row - place, min(row - place + ROW_GROUP_ROWS, self._dataset.count))
                table = self._dataset.rows(rows, self._columns)
                self._blocks[block] = [column.to_pylist() for column in table.columns]
                if len(self._blocks) > _READER_BLOCKS:
                    self._blocks.popitem(last=False)
            return [column[place] for column in self._blocks[block]]


def folder_of(dataset_id: str) -> str:
    """Return the key of a dataset's folder in its workspace."""
    return f"datasets/{dataset_id}"


def hint_key(dataset_id: str) -> str:
    """Return the key of what tells where a dataset's images were last."""
    return f"{folder_of(dataset_id)}/source.json"


def open_dataset(workspace: Workspace, dataset_id: str) -> Dataset:
    """Open a dataset, and check all of it that is small.

    Raises
    ------
    NotFoundError
        If there is none of that id, or it is not finished.
    NewerFormatError
        If it is of a newer format.
    DamagedError
        If what is stored is not what was written.
    """
    if not is_id(dataset_id):
        raise InvalidNameError(
            f"{dataset_id[:80]!r} is no dataset id; expected 64 hexadecimal digits"
        )
    what = f"dataset {dataset_id}"
    key = f"{folder_of(dataset_id)}/dataset.json"
    data = workspace.read_optional(key, most=MAX_DOCUMENT_BYTES)
    if data is None:
        raise NotFoundError(
            f"no {what} in {workspace.url}; list what there is, or ingest the images"
        )
    document = parse_json(data, f"dataset.json of {what}")
    check_format(document, "dataset", what)
    typed = all(type(document.get(key)) is kind for key, kind in _FIELDS.items())
    if not typed or document["kind"] != "dataset" or document_id(document) != dataset_id:
        raise DamagedError(f"dataset.json of {what} is not what was written; ingest again")
    manifest = open_manifest(workspace, f"{folder_of(dataset_id)}/manifest.parquet")
    if manifest.footer.num_rows != document["count"]:
        raise DamagedError(
            f"the manifest of {what} has {manifest.footer.num_rows} rows; expected "
            f"{document['count']}; ingest again"
        )
    if column_types(manifest.schema) != document["columns"]:
        raise DamagedError(f"the columns of the manifest of {what} have changed; ingest again")
    return Dataset(workspace, dataset_id, document, manifest)
