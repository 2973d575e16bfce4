"""A stored file as a seekable Python file that is read in ranges."""

from __future__ import annotations

import io

from vfs_ops.errors import DamagedError
from vfs_ops.store.locations import Folder

BUFFER_BYTES = 256 * 1024
"""What small reads are gathered into: one request fetches at least this much."""

MAX_RANGE_BYTES = 2**30
"""No more is read at once: a row group of a Parquet file has less."""


class _Ranged(io.RawIOBase):
    def __init__(self, folder: Folder, path: str, size: int) -> None:
        super().__init__()
        self._folder, self._path, self._size, self._at = folder, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"seek to {start + offset}; expected a position in the file")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        if stop - self._at > MAX_RANGE_BYTES:
            raise DamagedError(
                f"{self._folder.url}/{self._path}: {stop - self._at:,} bytes are to be read at "
                f"once, of {MAX_RANGE_BYTES:,} at most; it is not what was written"
            )
        data = self._folder.read(self._path, self._at, stop)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_ranged(folder: Folder, path: str, size: int | None = None) -> io.BufferedReader:
    """Open a file of a folder for reading, by one ranged request per `BUFFER_BYTES` or read.

    Unlike a file system's own file objects it holds no state that two readers could share.

    Parameters
    ----------
    folder, path
        Where it is.
    size
        In bytes; asked of the store if not given.

    Raises
    ------
    NotFoundError, AccessError, UnavailableError, StorageError
        As the storage answers; also from the reads themselves.
    """
    size = folder.stat(path).size if size is None else size
    return io.BufferedReader(_Ranged(folder, path, size), BUFFER_BYTES)
