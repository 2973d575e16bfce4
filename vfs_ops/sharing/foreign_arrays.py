"""Arrays of features that somebody else wrote: Zarr v2 directories, read without trust.

The layout is that of ``visualfeaturesearch`` 1.0.0: one array (image, channel, y, x), float16 or
float32, in chunks along ``image`` only. Only the codecs that it could write are known, no filters
and no objects; sizes are bounded before anything is decoded, and a chunk is handed to its codec
only if its own header agrees. The format: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html
"""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from vfs_ops.errors import (
    DamagedError,
    IncompleteError,
    InputError,
    NotFoundError,
    UnsafeMetadataError,
)
from vfs_ops.identity.canonical import canonical_json, parse_json
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.store.locations import Folder

MAX_CHUNK_BYTES: Final = (1 << 31) - 1
"""Decoded size of the largest chunk that is read; Blosc writes none larger."""
MAX_METADATA_BYTES: Final = 1 << 20

_DTYPES: Final[dict[str, Literal["float16", "float32"]]] = {"<f2": "float16", "<f4": "float32"}
_CODECS: Final = ("blosc", "zlib")
_KEPT_CHUNKS: Final = 2
_BLOSC_HEADER: Final = 16


@dataclass(frozen=True, eq=False)
class ForeignArray:
    """An array in a folder; made by `open_array`. Remembers the chunks that it decoded last."""

    folder: Folder
    path: str
    """Of the array in the folder; empty if the folder is the array."""
    shape: tuple[int, int, int, int]
    """Images, channels, y, x."""
    dtype: Literal["float16", "float32"]
    images_per_chunk: int
    codec: Literal["none", "blosc", "zlib"]
    separator: Literal[".", "/"]
    metadata: bytes
    """As stored."""
    _digests: dict[int, bytes] = field(default_factory=dict, repr=False)
    _kept: OrderedDict[int, NDArray[Any]] = field(default_factory=OrderedDict, repr=False)

    @property
    def chunk_count(self) -> int:
        """Number of chunks."""
        return -(-self.shape[0] // self.images_per_chunk)

    @property
    def chunk_bytes(self) -> int:
        """Decoded size of a chunk."""
        return self.images_per_chunk * int(np.prod(self.shape[1:])) * np.dtype(self.dtype).itemsize

    def digest(self, progress: ProgressCallback = silent) -> str:
        """Return the SHA-256 over metadata and chunks as stored; reads all, decodes nothing.

        What is read later must have the same digests.

        Raises
        ------
        IncompleteError
            If a chunk is missing.
        """
        whole = hashlib.sha256(hashlib.sha256(self.metadata).digest())
        for chunk in range(self.chunk_count):
            self._digests[chunk] = hashlib.sha256(self._encoded(chunk)).digest()
            whole.update(self._digests[chunk])
            progress(Progress("digest", chunk + 1, self.chunk_count, "chunks"))
        return whole.hexdigest()

    def read(self, positions: Sequence[int]) -> NDArray[np.floating]:
        """Read images.

        Memory: two chunks beside the result; positions in order decode each chunk once.

        Returns
        -------
        ndarray
            Shape (image, y, x, channel), in the order asked for, in the array's dtype.

        Raises
        ------
        DamagedError
            If a chunk does not decode, or has changed since `digest`.
        """
        count, channels, height, width = len(positions), *self.shape[1:]
        maps = np.empty((count, height, width, channels), self.dtype)
        wanted = np.asarray(positions)
        for chunk in dict.fromkeys((wanted // self.images_per_chunk).tolist()):
            places = np.flatnonzero(wanted // self.images_per_chunk == chunk)
            found = self._chunk(chunk)[wanted[places] - chunk * self.images_per_chunk]
            maps[places] = found.transpose(0, 2, 3, 1)
        return maps

    def _chunk(self, chunk: int) -> NDArray[Any]:
        if chunk in self._kept:
            self._kept.move_to_end(chunk)
            return self._kept[chunk]
        data = self._encoded(chunk)
        if self._digests and hashlib.sha256(data).digest() != self._digests[chunk]:
            raise DamagedError(f"{self._name(chunk)} has changed while it was read; import again")
        while len(self._kept) >= _KEPT_CHUNKS:
            self._kept.popitem(last=False)
        decoded = np.frombuffer(self._decoded(data, chunk), np.dtype(self.dtype).newbyteorder("<"))
        self._kept[chunk] = decoded.reshape(self.images_per_chunk, *self.shape[1:])
        return self._kept[chunk]

    def _encoded(self, chunk: int) -> bytes:
        name = self.separator.join((str(chunk), "0", "0", "0"))
        key = f"{self.path}/{name}" if self.path else name
        largest = self.chunk_bytes + self.chunk_bytes // 100 + 4096
        try:
            size = self.folder.stat(key).size
        except NotFoundError as error:
            raise IncompleteError(
                f"{self._name(chunk)} is missing: the cache was not written to its end; write it "
                "again, or build a cache"
            ) from error
        if size > largest:
            raise UnsafeMetadataError(
                f"{self._name(chunk)} has {size} bytes; a chunk of {self.chunk_bytes} bytes cannot "
                f"take more than {largest}; it is not what was written"
            )
        return self.folder.read(key, most=largest)

    def _decoded(self, data: bytes, chunk: int) -> bytes | Any:
        what, size = self._name(chunk), self.chunk_bytes
        if self.codec == "none":
            found: bytes | Any = data
        elif self.codec == "zlib":
            decoder = zlib.decompressobj()
            try:
                found = decoder.decompress(data, size + 1)
            except zlib.error as error:
                raise DamagedError(f"{what} does not decode: {error}") from error
        else:
            header = np.frombuffer(data[:_BLOSC_HEADER].ljust(_BLOSC_HEADER, b"\0"), "<u4")
            if (int(header[1]), int(header[3])) != (size, len(data)):
                raise DamagedError(f"{what} would decode to another size than {size} bytes")
            try:
                found = Blosc().decode(data)
            except (RuntimeError, ValueError) as error:
                raise DamagedError(f"{what} does not decode: {error}") from error
        if len(found) != size:
            raise DamagedError(f"{what} decodes to {len(found)} bytes or more; expected {size}")
        return found

    def _name(self, chunk: int) -> str:
        return f"chunk {chunk} of {self.folder.url}/{self.path}"


def open_array(folder: Folder, path: str | None = None) -> ForeignArray:
    """Find the array of features in a Zarr v2 directory.

    Parameters
    ----------
    folder
        The directory, of a group or of the array itself.
    path
        Of the array in the group; needed if there are several.

    Raises
    ------
    NotFoundError
        If there is no array.
    InputError
        If there are several.
    UnsafeMetadataError
        If its metadata asks for what an array of features does not need.
    """
    if path is None:
        path = _only_array(folder)
    what = f"{folder.url}/{path}".rstrip("/")
    key = f"{path}/.zarray" if path else ".zarray"
    if folder.stat(key).size > MAX_METADATA_BYTES:
        raise UnsafeMetadataError(f"{what}/.zarray is larger than {MAX_METADATA_BYTES} bytes")
    data = folder.read(key, most=MAX_METADATA_BYTES)
    document = parse_json(data, f"{what}/.zarray")
    shape, chunks = _sizes(document.get("shape")), _sizes(document.get("chunks"))
    compressor = document.get("compressor")
    codec = compressor.get("id") if isinstance(compressor, dict) else compressor
    dtype = document.get("dtype")
    wrong = {
        "zarr_format": document.get("zarr_format") != 2,
        "shape": shape is None,
        "chunks": shape is None or chunks is None or chunks[1:] != shape[1:],
        "dtype": not isinstance(dtype, str) or dtype not in _DTYPES,
        "order": document.get("order") != "C",
        "filters": document.get("filters") not in (None, []),
        "compressor": codec is not None and codec not in _CODECS,
        "dimension_separator": document.get("dimension_separator", ".") not in (".", "/"),
    }
    bad = [name for name, is_wrong in wrong.items() if is_wrong]
    if bad or shape is None or chunks is None:
        shown = canonical_json({name: document.get(name) for name in bad}).decode()[:300]
        raise UnsafeMetadataError(
            f"{what} is no array of features that can be imported: {shown}; expected Zarr format "
            "2, (image, channel, y, x) in little-endian float16 or float32, chunks along images "
            f"only, order C, no filters, and no compressor but {' or '.join(_CODECS)}"
        )
    array = ForeignArray(
        folder,
        path,
        shape,
        _DTYPES[str(dtype)],
        chunks[0],
        codec or "none",
        document.get("dimension_separator", "."),
        data,
    )
    if array.chunk_bytes > MAX_CHUNK_BYTES:
        raise UnsafeMetadataError(
            f"a chunk of {what} has {array.chunk_bytes} bytes decoded; up to {MAX_CHUNK_BYTES} are "
            "read; write it again in chunks of fewer images"
        )
    return array


def _only_array(folder: Folder) -> str:
    if folder.exists(".zarray"):
        return ""
    suffix = "/.zarray"
    found = [stat.path for stat in folder.walk() if stat.path.endswith(suffix)]
    names = [path.removesuffix(suffix) for path in found]
    if not names:
        raise NotFoundError(
            f"{folder.url} holds no Zarr v2 array; expected the folder that visualfeaturesearch "
            "wrote as its cache"
        )
    if len(names) > 1:
        shown = ", ".join(repr(name[:60]) for name in names[:10])
        raise InputError(f"{folder.url} holds {len(names)} arrays; say which one: {shown}")
    return names[0]


def _sizes(value: object) -> tuple[int, int, int, int] | None:
    sound = (
        isinstance(value, list)
        and len(value) == 4
        and all(type(size) is int and 0 < size < 1 << 31 for size in value)
    )
    return (value[0], value[1], value[2], value[3]) if sound and isinstance(value, list) else None
