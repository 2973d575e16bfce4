"""URLs and folders: what may be opened, listing and reading. All that knows URLs is here."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from vfs_ops.errors import (
    AccessError,
    InvalidNameError,
    InvalidUrlError,
    NotFoundError,
    StorageError,
    StorageFullError,
    UnavailableError,
)

WORKSPACE_PROTOCOLS: Final = ("file", "s3", "https", "memory")
SOURCE_PROTOCOLS: Final = ("file", "s3", "gs", "az", "abfs", "https", "http", "memory")
REMOTE_PROTOCOLS: Final = tuple(p for p in SOURCE_PROTOCOLS if p not in ("file", "memory"))

_SECRET_PARAMETERS = ("signature", "token", "credential", "secret", "password", "accesskey", "sig")


@dataclass(frozen=True, slots=True)
class FileStat:
    """What a listing tells of one file."""

    path: str
    """Relative to the folder that was listed, parts separated by ``/``."""
    size: int
    """Bytes."""
    token: str
    """Changes when the file does: its ETag where the store has one, else size and time.
    Empty where the store tells neither; such a file is never known to be unchanged."""


def normalize_url(text: str, protocols: tuple[str, ...] = WORKSPACE_PROTOCOLS) -> str:
    """Return a URL or local path as a URL without a trailing slash.

    Parameters
    ----------
    text
        A URL, or a local path (``~`` is expanded).
    protocols
        The protocols that are allowed.

    Raises
    ------
    InvalidUrlError
        If the protocol is not allowed, protocols are chained (``::``), or the URL holds a user, a
        password or a signature.
    """
    if "::" in text:
        raise InvalidUrlError(f"{text!r} chains protocols with '::'; give one plain URL")
    if "\x00" in text or not text:
        raise InvalidUrlError(f"{text!r} is no URL or path; give one")
    if "://" not in text:
        if "file" not in protocols:
            raise InvalidUrlError(
                f"{text[:200]!r} is a local path; expected a URL with one of {', '.join(protocols)}"
            )
        return "file://" + (Path(text).expanduser().absolute().as_posix().rstrip("/") or "/")
    parts = urlsplit(text)
    if parts.scheme not in protocols:
        raise InvalidUrlError(
            f"{parts.scheme}:// is not supported here; expected one of {', '.join(protocols)}"
        )
    if parts.username or parts.password:
        raise InvalidUrlError(
            f"the URL of host {parts.hostname} holds a user or password; put credentials into the "
            "environment or fsspec's configuration instead"
        )
    names = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if any(secret in name.replace("-", "") for name in names for secret in _SECRET_PARAMETERS):
        raise InvalidUrlError(
            f"the URL of host {parts.hostname} carries a signature; signed URLs expire and are "
            "secrets, so give the plain URL and put credentials into the environment"
        )
    rest = text.partition("://")[2].rstrip("/")
    if not rest and parts.scheme not in ("file", "memory"):
        raise InvalidUrlError(f"{text!r} names no host or bucket; give one")
    return f"{parts.scheme}://{rest or ('/' if parts.scheme == 'file' else '')}"


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn what a file system raises into the errors of this project."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{what} is not there; check the name and the workspace") from error
    except PermissionError as error:
        raise AccessError(f"{what}: access refused ({error}); check credentials") from error
    except (TimeoutError, ConnectionError) as error:
        raise UnavailableError(f"{what}: no answer ({error}); try again later") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(f"{what}: no space left; free some and run again") from error
        if error.errno == errno.EROFS:
            raise AccessError(f"{what}: the storage is read-only") from error
        raise StorageError(f"{what}: {error}") from error


def read_url(url: str) -> bytes:
    """Read one file at a full URL, as found in a manifest.

    Local files are never read this way: paths in a manifest are relative to a folder that the
    local user named.

    Raises
    ------
    InvalidUrlError
        If the protocol is not a remote one.
    """
    url = normalize_url(url, REMOTE_PROTOCOLS)
    filesystem = _filesystem(url.partition("://")[0])
    with storage_errors(url):
        return bytes(filesystem.cat_file(filesystem._strip_protocol(url)))


def stat_url(url: str) -> FileStat:
    """Return size and change token of one file at a full remote URL.

    Raises
    ------
    InvalidUrlError
        If the protocol is not a remote one.
    """
    url = normalize_url(url, REMOTE_PROTOCOLS)
    filesystem = _filesystem(url.partition("://")[0])
    with storage_errors(url):
        return _stat(url, filesystem.info(filesystem._strip_protocol(url)))


@lru_cache(maxsize=64)
def _filesystem(protocol: str) -> Any:
    try:
        return fsspec.filesystem(protocol)
    except ImportError as error:
        raise StorageError(f"{protocol}:// needs a package: {error}; install it") from error


@dataclass(frozen=True)
class Folder:
    """A place that can be listed and read, wherever it is. Paths are relative and stay inside."""

    url: str

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
        return _filesystem(self.protocol)

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

    def read(self, relative: str, start: int | None = None, stop: int | None = None) -> bytes:
        """Read a file, or its bytes `start` to `stop`; a negative start counts from the end.

        Raises
        ------
        NotFoundError, AccessError, UnavailableError, StorageError
            As the storage answers; a range that comes back with another length is a `StorageError`.
        """
        path = self.path_of(relative)
        with storage_errors(f"{self.url}/{relative}"):
            data = bytes(self.filesystem.cat_file(path, start=start, end=stop))
        if start is not None and stop is not None and start >= 0 and len(data) > stop - start:
            raise StorageError(
                f"{self.url}/{relative}: asked for {stop - start} bytes and got {len(data)}; "
                "the server ignores ranges; use one that honours them"
            )
        return data

    def read_optional(self, relative: str) -> bytes | None:
        """Read a file that need not be there; None if it is not."""
        try:
            return self.read(relative)
        except NotFoundError:
            return None

    def exists(self, relative: str) -> bool:
        """Tell whether a file or folder is there."""
        path = self.path_of(relative)
        with storage_errors(f"{self.url}/{relative}"):
            return bool(self.filesystem.exists(path))

    def stat(self, relative: str) -> FileStat:
        """Return size and change token of one file."""
        path = self.path_of(relative)
        with storage_errors(f"{self.url}/{relative}"):
            return _stat(relative, self.filesystem.info(path))

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
        with storage_errors(f"{self.url}/{relative}"):
            if not self.filesystem.isdir(top):
                return []
            if isinstance(self.filesystem, LocalFileSystem):
                stats = list(_walk_local(root, relative))
            else:
                stats = [
                    _stat(name[len(root) :].lstrip("/"), info)
                    for name, info in self.filesystem.find(top, detail=True).items()
                    if info["type"] == "file"
                ]
        return sorted(stats, key=lambda found: found.path)


def _walk_local(root: str, folder: str) -> Iterator[FileStat]:
    """List files recursively; fsspec's `find` leaves out folders that it may not list."""
    folders = [folder]
    while folders:
        folder = folders.pop()
        try:
            entries = os.scandir(os.path.join(root, folder))
        except FileNotFoundError:
            continue  # deleted meanwhile
        with entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                    continue
                try:
                    status = entry.stat()  # of what a link leads to
                except FileNotFoundError:
                    if entry.is_symlink():
                        yield FileStat(path, 0, "")  # reading it will say that it is broken
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield _stat(path, {"size": status.st_size, "mtime": status.st_mtime})


def _stat(path: str, info: dict[str, Any]) -> FileStat:
    size = int(info.get("size") or 0)
    etag = info.get("ETag") or info.get("etag")
    if etag:
        return FileStat(path, size, f"etag:{str(etag).strip(chr(34))}")
    names = ("mtime", "LastModified", "Last-Modified", "last_modified", "updated", "created")
    changed = next((info[name] for name in names if info.get(name)), None)
    return FileStat(path, size, "" if changed is None else f"time:{size}:{changed}")
