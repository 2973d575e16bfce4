"""Folders and single files, local or remote: listing them, and reading."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from vfs_ops.errors import (
    DamagedError,
    ForbiddenError,
    InvalidNameError,
    NotFoundError,
    StorageError,
)
from vfs_ops.store import filesystems, http_files, traffic
from vfs_ops.store.attempts import persistently
from vfs_ops.store.failures import has_no_range, storage_errors
from vfs_ops.store.file_stats import FileStat, file_stat, walk_local
from vfs_ops.store.urls import REMOTE_PROTOCOLS, SOURCE_PROTOCOLS, normalize_url

MAX_DOCUMENT_BYTES: Final = 1 << 23
"""No JSON document of a workspace is read that is larger; most have some kB."""
MAX_OBJECT_BYTES: Final = 1 << 31
"""Nothing at all is read whole that is larger: no shard is."""

_HTTP: Final = tuple(f"{protocol}://" for protocol in http_files.PROTOCOLS)


def read_url(url: str, limit: int) -> bytes:
    """Read one file at a full URL, as found in a manifest.

    Local files are never read this way: paths in a manifest are relative to a folder that the
    local user named.

    Parameters
    ----------
    url
        With one of `urls.REMOTE_PROTOCOLS`.
    limit
        Bytes at which reading stops; a longer file is cut there.

    Raises
    ------
    InvalidUrlError
        If the URL is malformed, or its protocol is not a remote one.
    NotFoundError, AccessError, UnavailableError, StorageError
        As the storage answers.
    """
    url = normalize_url(url, REMOTE_PROTOCOLS)
    filesystem = filesystems.filesystem(url.partition("://")[0])

    def read() -> bytes:
        if url.startswith(_HTTP):
            return http_files.read_http(filesystem, url, limit=limit)
        path = filesystem._strip_protocol(url)
        # a range of an empty object is an error, so only one that is too long is read by range
        stop = limit if int(filesystem.info(path).get("size") or 0) > limit else None
        start = None if stop is None else 0
        return bytes(filesystem.cat_file(path, start=start, end=stop))

    return persistently(url, read)


def stat_url(url: str) -> FileStat:
    """Return size and change token of one file at a full remote URL.

    Raises
    ------
    InvalidUrlError
        If the URL is malformed, or its protocol is not a remote one.
    NotFoundError, AccessError, UnavailableError, StorageError
        As the storage answers.
    """
    url = normalize_url(url, REMOTE_PROTOCOLS)
    filesystem = filesystems.filesystem(url.partition("://")[0])

    def ask() -> dict[str, Any]:
        if url.startswith(_HTTP):
            return http_files.http_info(filesystem, url)
        found: dict[str, Any] = filesystem.info(filesystem._strip_protocol(url))
        return found

    return file_stat(url, persistently(url, ask))


@dataclass(frozen=True)
class Folder:
    """A place that can be listed and read, wherever it is. Paths are relative and stay inside."""

    url: str
    stays: ClassVar[bool] = False
    """Whether an https server may not redirect to another one."""

    @classmethod
    def at(cls, text: str) -> Folder:
        """Return the folder at a URL or local path; nothing is opened yet."""
        return cls(normalize_url(text, SOURCE_PROTOCOLS))

    @property
    def protocol(self) -> str:
        """The part before ``://``."""
        return self.url.partition("://")[0]

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, made once a process and configured by the environment."""
        return filesystems.filesystem(self.protocol)

    @property
    def _is_http(self) -> bool:
        return self.protocol in http_files.PROTOCOLS

    def path_of(self, relative: str) -> str:
        """Return the file system's own path of a relative path.

        Raises
        ------
        InvalidNameError
            If the path could leave the folder.
        """
        if not relative:
            return str(self.filesystem._strip_protocol(self.url))
        parts = relative.split("/")
        if (
            relative.startswith("/")
            or "\x00" in relative
            or any(p in ("", ".", "..") for p in parts)
        ):
            raise InvalidNameError(
                f"{relative[:200]!r} could leave its folder; expected a relative path without "
                "'..', '.' or empty parts"
            )
        return str(self.filesystem._strip_protocol(self.url)).rstrip("/") + "/" + relative

    def read(
        self,
        relative: str,
        start: int | None = None,
        stop: int | None = None,
        *,
        most: int = MAX_OBJECT_BYTES,
    ) -> bytes:
        """Read a file, or its bytes `start` to `stop`; a negative start counts from the end.

        Parameters
        ----------
        relative
            Path of the file.
        start, stop
            As in a slice; None means from the beginning, and to the end.
        most
            Bytes that the file may have, if it is read whole. No more than one more is fetched,
            whatever the storage says or sends.

        Raises
        ------
        DamagedError
            If the file is longer than `most`.
        NotFoundError, AccessError, UnavailableError, StorageError
            As the storage answers; a range that comes back with another length is a `StorageError`.
        """
        path, what = self.path_of(relative), f"{self.url}/{relative}"

        def read() -> bytes:
            if start is None and stop is None:
                return self._read_whole(path, most)
            if self._is_http:
                return http_files.read_http(self.filesystem, path, start, stop, stay=self.stays)
            return bytes(self.filesystem.cat_file(path, start=start, end=stop))

        data = persistently(what, read)
        traffic.count(bytes_read=len(data))
        if start is not None and stop is not None and start >= 0 and len(data) > stop - start:
            raise StorageError(
                f"{what}: asked for {stop - start} bytes and got {len(data)}; "
                "the storage ignores ranges; use one that honours them"
            )
        if start is None and stop is None and len(data) > most:
            raise _too_long(what, most)
        return data

    def _read_whole(self, path: str, most: int) -> bytes:
        """Read a file, or the `most` and one bytes by which one that is too long is known."""
        if self._is_http:
            return http_files.read_http(self.filesystem, path, limit=most + 1, stay=self.stays)
        if isinstance(self.filesystem, LocalFileSystem):
            with open(path, "rb") as file:
                # Python takes memory for as many bytes as it is asked for
                return file.read(min(os.fstat(file.fileno()).st_size, most) + 1)
        try:
            return bytes(self.filesystem.cat_file(path, start=0, end=most + 1))
        except Exception as error:
            if has_no_range(error):  # an empty object has none
                return b""
            raise

    def read_into(self, relative: str, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Read a whole file, into `buffer` where that saves fresh memory: if it is local.

        Returns
        -------
        ndarray
            The file's bytes; a part of `buffer`, or memory of its own.

        Raises
        ------
        DamagedError
            If the file is longer than the buffer.
        NotFoundError, AccessError, UnavailableError, StorageError
            As the storage answers.
        """
        if not isinstance(self.filesystem, LocalFileSystem):
            return np.frombuffer(self.read(relative, most=len(buffer)), np.uint8)
        path, what = self.path_of(relative), f"{self.url}/{relative}"
        with storage_errors(what), open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > len(buffer):
                raise _too_long(what, len(buffer))
            filled = 0
            while count := file.readinto(buffer[filled:size].data):
                filled += count
        traffic.count(requests=1, bytes_read=filled)
        return buffer[:filled]

    def read_optional(self, relative: str, *, most: int = MAX_OBJECT_BYTES) -> bytes | None:
        """Read a file that need not be there, as `read` does; None if it is not.

        Public storages that may not be listed answer 403 for what is not there: None as well.
        """
        try:
            return self.read(relative, most=most)
        except (NotFoundError, ForbiddenError):
            return None

    def exists(self, relative: str) -> bool:
        """Tell whether a file or folder is there."""
        path = self.path_of(relative)
        if self._is_http:  # fsspec's takes every failure for a missing file
            try:
                self.stat(relative)
            except NotFoundError:
                return False
            return True
        return bool(persistently(f"{self.url}/{relative}", lambda: self.filesystem.exists(path)))

    def stat(self, relative: str) -> FileStat:
        """Return size and change token of one file."""
        path = self.path_of(relative)

        def ask() -> dict[str, Any]:
            if self._is_http:
                return http_files.http_info(self.filesystem, path, stay=self.stays)
            found: dict[str, Any] = self.filesystem.info(path)
            return found

        return file_stat(relative, persistently(f"{self.url}/{relative}", ask))

    def walk(self, relative: str = "") -> list[FileStat]:
        """List all files below a folder, recursively, sorted by path.

        Symbolic links to files are listed as the files they lead to, broken ones as empty files;
        links to folders are not followed, since they may lead round in circles.

        Returns
        -------
        list of FileStat
            With paths relative to this folder's URL; empty if the folder is not there.

        Raises
        ------
        AccessError, UnavailableError, StorageError
            If any part of it cannot be listed.
        """
        top, root = self.path_of(relative), self.path_of("")
        what = f"{self.url}/{relative}"
        if isinstance(self.filesystem, LocalFileSystem):
            with storage_errors(what):
                stats = list(walk_local(root, relative)) if os.path.isdir(top) else []
        else:
            stats = [
                file_stat(name[len(root) :].lstrip("/"), info)
                for name, info in persistently(what, lambda: self._find(top)).items()
                if info["type"] == "file" and name != top
            ]
        return sorted(stats, key=lambda found: found.path)

    def _find(self, top: str) -> dict[str, Any]:
        if self._is_http and not self.filesystem.isdir(top):
            return {}
        # fsspec's plain walk leaves out folders that it may not list
        options = {"on_error": "raise"} if self._is_http else {}
        try:
            found: dict[str, Any] = self.filesystem.find(top, detail=True, **options)
        except FileNotFoundError:
            return {}
        return found


def _too_long(what: str, most: int) -> DamagedError:
    return DamagedError(
        f"{what} has more than {most:,} bytes, the most that is read of it; it is not what was "
        "written, so ask whoever wrote it"
    )
