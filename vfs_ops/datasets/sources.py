"""What every dataset source has in common: a listing of its images, and reading one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import pyarrow as pa
from PIL import Image

from vfs_ops.datasets.manifests import RESERVED
from vfs_ops.datasets.metadata import is_clean_text, normal_metadata
from vfs_ops.errors import DamagedError, ImageError, SourceError, StorageError
from vfs_ops.images.decoding import (
    MAX_BYTES,
    content_digest,
    decode_image,
    decode_pixels,
    pixel_digest,
)
from vfs_ops.store.file_stats import FileStat
from vfs_ops.store.locations import Folder, read_url, stat_url
from vfs_ops.store.parquet_files import MAX_WRITTEN_BYTES, ROW_GROUP_ROWS

EXTENSIONS: Final = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "gif", "bmp", "dib", "tif", "tiff", "webp"),
    *("avif", "avifs"),
)
"""File name extensions, in lower case, of what is taken for an image."""

MAX_URI_LENGTH: Final = 4096
"""Characters of a path or URL in a manifest."""


_PLACES_BLOCK: Final = 4096
"""Rows of a listing that are Python objects at a time."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of one image are."""

    uri: str
    """Relative to the source's root, or a remote URL."""
    size: int | None = None
    """Bytes, where known."""
    byte_offset: int | None = None
    """Start of the bytes in a tar shard; None where the image is a file of its own."""


@dataclass(frozen=True)
class Content:
    """What a source gives for one place."""

    data: bytes | Image.Image
    """The file's bytes; an image from a source that has no files."""
    label: str | None = None
    """From a source that knows labels only when it reads the image."""


class Reader(Protocol):
    """What reads images of a source; used by several threads at once."""

    def fetch(self, place: Place) -> Content:
        """Read one image.

        Raises
        ------
        ImageError
            If it can never be decoded; its row is kept.
        StorageError, NotFoundError
            If it cannot be read now.
        """
        ...

    def stat(self, place: Place) -> FileStat:
        """Return size and change token of an image whose token the listing does not know."""
        ...


@dataclass(frozen=True)
class Listing:
    """All images of a source, in order, as far as they are known without being read."""

    table: pa.Table
    """Columns ``uri`` and ``label``, ``bytes`` and, for tar shards, ``byte_offset`` (may be null);
    then the metadata columns, in types and names of a manifest."""
    tokens: pa.Array
    """Change token of each row; null where it has yet to be asked for, empty where none exists."""
    reader: Reader
    """Reads the images."""
    origin: dict[str, Any]
    """What is needed to read the images again: ``kind`` and ``root``; no credentials."""

    def places(self) -> Iterator[tuple[Place, str | None]]:
        """Yield the place and the change token of every row; few at a time are in memory."""
        names = [
            name for name in ("uri", "bytes", "byte_offset") if name in self.table.column_names
        ]
        rows = self.table.select(names).append_column("token", self.tokens)
        for batch in rows.to_batches(max_chunksize=_PLACES_BLOCK):
            columns = (column.to_pylist() for column in batch.columns)
            for *place, token in zip(*columns, strict=True):
                yield Place(*place), token


@runtime_checkable
class Source(Protocol):
    """Where a dataset comes from."""

    def listing(self) -> Listing:
        """List all images, reading none.

        Raises
        ------
        SourceError
            If there is none, or the listing is malformed.
        """
        ...


@dataclass(frozen=True)
class Files:
    """Reads files below a root, members of tar shards below it, and remote URLs."""

    root: Folder | None
    """None where all places are remote URLs."""

    def fetch(self, place: Place) -> Content:
        """Read the bytes at a place; see `Reader.fetch`."""
        if place.size is not None and place.size > MAX_BYTES:
            raise ImageError(f"the file has {place.size} bytes; expected at most {MAX_BYTES}")
        if is_remote(place.uri):
            data = read_url(place.uri, MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise _too_long()
            return Content(data)
        if place.byte_offset is None:
            return Content(self._read_whole(place))
        shard, size = place.uri.partition("#")[0], place.size or 0
        if place.byte_offset < 0 or size < 0:
            raise ImageError(f"{size} bytes at {place.byte_offset} are in no shard")
        data = self._folder(place).read(shard, place.byte_offset, place.byte_offset + size)
        if len(data) != size:
            raise StorageError(
                f"{place.uri}: {len(data)} bytes of {size} are there; the shard is cut off; copy "
                "it again"
            )
        return Content(data)

    def _read_whole(self, place: Place) -> bytes:
        try:
            return self._folder(place).read(place.uri, most=MAX_BYTES)
        except DamagedError as error:
            raise _too_long() from error

    def stat(self, place: Place) -> FileStat:
        """Return size and change token of a file."""
        if is_remote(place.uri):
            return stat_url(place.uri)
        return self._folder(place).stat(place.uri)

    def _folder(self, place: Place) -> Folder:
        if self.root is None:
            raise SourceError(f"{place.uri!r} is relative; say in which folder the images are")
        return self.root


def _too_long() -> ImageError:
    return ImageError(f"the file has more than {MAX_BYTES} bytes, the most that is read")


def is_remote(uri: str) -> bool:
    """Tell a full URL from a path relative to a root."""
    return "://" in uri


def is_image_name(name: str) -> bool:
    """Tell by a file's name whether it is taken for an image."""
    return name.rpartition(".")[2].lower() in EXTENSIONS and "." in name


def opened(content: Content) -> tuple[bytes, Image.Image]:
    """Return content digest and pixels of what a source gave.

    Raises
    ------
    ImageError
        If it cannot be decoded.
    """
    if isinstance(content.data, bytes):
        return content_digest(content.data), decode_image(content.data)
    image = decode_pixels(content.data)
    return pixel_digest(image), image


def check_uris(uris: Iterable[str]) -> None:
    """Refuse paths and URLs that no manifest may hold.

    Raises
    ------
    SourceError
        If one is too long, holds control characters or is no valid Unicode.
    """
    for uri in uris:
        if len(uri) > MAX_URI_LENGTH or not is_clean_text(uri):
            raise SourceError(
                f"{uri[:200]!a} cannot be a path in a dataset; expected at most "
                f"{MAX_URI_LENGTH} characters, none a control character, in valid Unicode; rename "
                "the file"
            )


def file_listing(
    root: Folder | None,
    uris: Sequence[str],
    labels: Iterable[str | None] | pa.ChunkedArray,
    tokens: Iterable[str | None],
    sizes: Iterable[int | None],
    metadata: pa.Table | None = None,
    offsets: Iterable[int] | None = None,
) -> Listing:
    """Return the checked listing of images that are files, or members of tar shards.

    Raises
    ------
    SourceError
        If a URI is no valid Unicode, a metadata column cannot be stored, or there is too much of
        it.
    """
    check_uris(uris)
    columns = {
        "uri": pa.array(uris, pa.string()),
        "label": labels if isinstance(labels, pa.ChunkedArray) else pa.array(labels, pa.string()),
        "bytes": pa.array(sizes, pa.int64()),
    }
    if offsets is not None:
        columns["byte_offset"] = pa.array(offsets, pa.int64())
    table = pa.table(columns)
    if metadata is not None:
        extra = normal_metadata(metadata, RESERVED)
        for name in extra.column_names:
            table = table.append_column(name, extra[name])
    for start in range(0, table.num_rows, ROW_GROUP_ROWS):
        size = table.slice(start, ROW_GROUP_ROWS).nbytes
        if size > MAX_WRITTEN_BYTES:
            raise SourceError(
                f"the rows from {start} on have {size} bytes of metadata; expected at most "
                f"{MAX_WRITTEN_BYTES} in {ROW_GROUP_ROWS} rows; drop columns or shorten texts"
            )
    origin = {"kind": "files", "root": None if root is None else root.url}
    return Listing(table, pa.array(tokens, pa.string()), Files(root), origin)
