"""Workspaces: the root of datasets, caches and the catalog, with create-only writes."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fsspec.implementations.local import LocalFileSystem

from vfs_ops.canonical import check_name
from vfs_ops.errors import AccessError, InvalidNameError, StorageError
from vfs_ops.failures import already_there, storage_errors
from vfs_ops.locations import FileStat, Folder
from vfs_ops.urls import WORKSPACE_PROTOCOLS, normalize_url

READ_ONLY_PROTOCOLS: Final = ("https",)
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_MEMORY_LOCK: Final = threading.Lock()


@dataclass(frozen=True)
class Workspace(Folder):
    """A root that holds datasets, caches and the catalog.

    Keys are made of checked names, so none can leave the root. Objects are created whole and, but
    for derived ones, never change. A local workspace needs a file system with hard links.

    A local write that is killed leaves a file named ``.NAME.HEX`` beside the object it was to
    become. It is in no listing and never read; once no process writes, it may be deleted.
    """

    @classmethod
    def at(cls, text: str) -> Workspace:
        """Return the workspace at a URL or local path; it need not exist yet."""
        return cls(normalize_url(text, WORKSPACE_PROTOCOLS))

    @classmethod
    def in_memory(cls) -> Workspace:
        """Return a new workspace in the memory of this process."""
        return cls(f"memory://vfs-{secrets.token_hex(8)}")

    @property
    def writable(self) -> bool:
        """False for protocols that can only be read."""
        return self.protocol not in READ_ONLY_PROTOCOLS

    def path_of(self, relative: str) -> str:
        """Return the file system's own path of a key, every part of which is a checked name."""
        for part in relative.split("/") if relative else ():
            check_name(part)
        return super().path_of(relative)

    def walk(self, relative: str = "") -> list[FileStat]:
        """List all objects below a prefix, recursively, sorted by key.

        A write that was killed may have left a file whose name starts with a dot: it is no object.
        """
        with self._memory_lock():
            stats = super().walk(relative)
        return [stat for stat in stats if not stat.path.rpartition("/")[2].startswith(".")]

    def create(self, key: str, data: bytes) -> bool:
        """Write an object that must not exist yet; whole or not at all.

        Returns
        -------
        bool
            False if an object of that key is already there; it stays as it is.

        Raises
        ------
        AccessError, StorageFullError, UnavailableError, StorageError
            As the storage answers; nothing is left half-written.
        """
        self._check_writable()
        path = self.path_of(key)
        with storage_errors(f"{self.url}/{key}"):
            if isinstance(self.filesystem, LocalFileSystem):
                return _create_local(Path(path), data)
            try:
                with self._memory_lock():
                    self.filesystem.pipe_file(path, data, mode="create")
            except OSError as error:
                if not already_there(error):
                    raise
                return False
            return True

    def replace(self, key: str, data: bytes) -> None:
        """Write a derived object, over whatever is there; readers see the old or the new, whole."""
        self._check_writable()
        path = self.path_of(key)
        with storage_errors(f"{self.url}/{key}"):
            if isinstance(self.filesystem, LocalFileSystem):
                with _temporary_sibling(Path(path), data) as temporary:
                    temporary.replace(path)
            else:
                with self._memory_lock():
                    self.filesystem.pipe_file(path, data)

    def delete(self, key: str) -> None:
        """Remove an object or everything below a prefix; nothing happens if it is not there."""
        self._check_writable()
        if not key:
            raise InvalidNameError(f"{self.url} would be deleted as a whole; name what to delete")
        path = self.path_of(key)
        missing = contextlib.suppress(FileNotFoundError)
        with storage_errors(f"{self.url}/{key}"), missing, self._memory_lock():
            self.filesystem.rm(path, recursive=True)

    def names(self, key: str) -> list[str]:
        """List the names directly below a prefix, sorted; empty if there is none."""
        path = self.path_of(key)
        with storage_errors(f"{self.url}/{key}"):
            try:
                with self._memory_lock():
                    found = self.filesystem.ls(path, detail=False)
            except FileNotFoundError:
                return []
        names = {str(name).rstrip("/").rpartition("/")[2] for name in found}
        return sorted(name for name in names if not name.startswith("."))

    def zarr_store(self, key: str) -> Any:
        """Return a read-only Zarr store for the group at `key`."""
        from zarr.storage import FsspecStore, LocalStore

        path = self.path_of(key)
        if isinstance(self.filesystem, LocalFileSystem):
            return LocalStore(path, read_only=True)
        return FsspecStore.from_url(f"{self.url}/{key}", read_only=True)

    def _memory_lock(self) -> contextlib.AbstractContextManager[Any]:
        """Guard fsspec's memory, which looks first and then writes, lists or deletes."""
        return _MEMORY_LOCK if self.protocol == "memory" else contextlib.nullcontext()

    def _check_writable(self) -> None:
        if not self.writable:
            raise AccessError(f"{self.url} is read-only; write to a file or s3 workspace")


def _create_local(path: Path, data: bytes) -> bool:
    if path.exists():
        return False
    with _temporary_sibling(path, data) as temporary:
        try:
            os.link(temporary, path)  # atomic, and fails if the object exists
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise StorageError(
                f"the file system of {path.parent} has no hard links, which a workspace needs to "
                "write objects whole and only once; put the workspace on another file system or "
                "on s3"
            ) from error
    return True


@contextlib.contextmanager
def _temporary_sibling(path: Path, data: bytes) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
