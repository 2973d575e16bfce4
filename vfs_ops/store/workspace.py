"""Workspaces: the root of datasets, caches and the catalog, with create-only writes."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from fsspec.implementations.local import LocalFileSystem

from vfs_ops.errors import AccessError, ForbiddenError, InvalidNameError
from vfs_ops.identity.canonical import check_name
from vfs_ops.store import local_writes, remote_writes
from vfs_ops.store.attempts import persistently
from vfs_ops.store.failures import already_there, storage_errors
from vfs_ops.store.file_stats import FileStat
from vfs_ops.store.filesystems import self_reliant_options
from vfs_ops.store.locations import Folder
from vfs_ops.store.urls import WORKSPACE_PROTOCOLS, normalize_url

READ_ONLY_PROTOCOLS: Final = ("https",)
_MEMORY_LOCK: Final = threading.Lock()


@dataclass(frozen=True)
class Workspace(Folder):
    """A root that holds datasets, caches and the catalog.

    Keys are made of checked names, so none can leave the root. Objects are created whole and, but
    for derived ones, never change. A local workspace needs a file system with hard links.

    A local write that is killed leaves a file named ``.NAME.HEX`` beside the object it was to
    become. It is in no listing and never read; once no process writes, it may be deleted.
    """

    stays: ClassVar[bool] = True

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
        self._check_listable()
        with self._memory_lock():
            stats = super().walk(relative)
        return [stat for stat in stats if not stat.path.rpartition("/")[2].startswith(".")]

    def create(self, key: str, data: bytes) -> bool:
        """Write an object that must not exist yet; whole or not at all.

        Returns
        -------
        bool
            False if an object of that key is already there, written by anybody else; it stays as
            it is. A write whose answer was lost is not taken for another's.

        Raises
        ------
        NotFoundError
            If the bucket is not there.
        AccessError, StorageFullError, UnavailableError, StorageError
            As the storage answers; nothing is left half-written.
        """
        self._check_writable()
        path, what = self.path_of(key), f"{self.url}/{key}"
        if isinstance(self.filesystem, LocalFileSystem):
            with storage_errors(what):
                return local_writes.create(Path(path), data)
        writer = secrets.token_hex(16)

        def write() -> bool:
            try:
                with self._memory_lock():
                    remote_writes.create(self.filesystem, path, data, writer)
            except OSError as error:
                if not already_there(error):
                    raise
                return False
            return True

        # an attempt whose answer was lost may have been the one that wrote it
        return persistently(what, write) or persistently(
            what, lambda: remote_writes.is_of(self.filesystem, path, writer)
        )

    def replace(self, key: str, data: bytes) -> None:
        """Write a derived object, over whatever is there; readers see the old or the new, whole."""
        self._check_writable()
        path, what = self.path_of(key), f"{self.url}/{key}"
        if isinstance(self.filesystem, LocalFileSystem):
            with (
                storage_errors(what),
                local_writes.temporary_sibling(Path(path), data) as temporary,
            ):
                temporary.replace(path)
            return

        def write() -> None:
            with self._memory_lock():
                remote_writes.replace(self.filesystem, path, data)

        persistently(what, write)

    def delete(self, key: str) -> None:
        """Remove an object or everything below a prefix; nothing happens if it is not there."""
        self._check_writable()
        if not key:
            raise InvalidNameError(f"{self.url} would be deleted as a whole; name what to delete")
        path = self.path_of(key)

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError), self._memory_lock():
                remote_writes.remove(self.filesystem, path)

        persistently(f"{self.url}/{key}", remove)

    def delete_objects(self, keys: Collection[str]) -> None:
        """Remove objects, in no certain order; those that are not there do not matter."""
        self._check_writable()
        root, paths = self.path_of(""), [self.path_of(key) for key in keys]
        if isinstance(self.filesystem, LocalFileSystem):
            with storage_errors(self.url):
                for path in paths:
                    local_writes.remove(Path(path), Path(root))
            return

        def remove() -> None:
            with self._memory_lock():
                remote_writes.remove_objects(self.filesystem, paths)

        persistently(self.url, remove)

    def abandoned(self) -> list[FileStat]:
        """List the files that killed writes left beside objects; only local workspaces have any."""
        if self.protocol != "file":
            return []
        places = ((stat, stat.path.rpartition("/")) for stat in Folder(self.url).walk())
        return [
            stat
            for stat, (folder, _, name) in places
            if local_writes.TEMPORARY.fullmatch(name) and self._may_hold_objects(folder)
        ]

    def delete_abandoned(self, path: str) -> None:
        """Remove a file that `abandoned` listed.

        Raises
        ------
        InvalidNameError
            If it is no such file.
        """
        folder, _, name = path.rpartition("/")
        if self.protocol != "file" or not local_writes.TEMPORARY.fullmatch(name):
            raise InvalidNameError(f"{path[:200]!r} was not left by a killed write; delete objects")
        with storage_errors(f"{self.url}/{path}"):
            Path(self.path_of(folder), name).unlink(missing_ok=True)

    def names(self, key: str) -> list[str]:
        """List the names directly below a prefix, sorted; empty if there is none.

        Raises
        ------
        ForbiddenError
            If the storage does not list: https, or a bucket that only lets read.
        """
        self._check_listable()
        path = self.path_of(key)

        def ask() -> list[str]:
            try:
                with self._memory_lock():
                    found: list[str] = self.filesystem.ls(path, detail=False)
            except FileNotFoundError:
                return []
            return found

        found = persistently(f"{self.url}/{key}", ask)
        names = {str(name).rstrip("/").rpartition("/")[2] for name in found}
        return sorted(name for name in names if not name.startswith("."))

    def zarr_store(self, key: str) -> Any:
        """Return a read-only Zarr store for the group at `key`."""
        from zarr.storage import FsspecStore, LocalStore

        path = self.path_of(key)
        if isinstance(self.filesystem, LocalFileSystem):
            return LocalStore(path, read_only=True)
        options = self_reliant_options(self.protocol)
        return FsspecStore.from_url(f"{self.url}/{key}", read_only=True, storage_options=options)

    def _memory_lock(self) -> contextlib.AbstractContextManager[Any]:
        """Guard fsspec's memory, which looks first and then writes, lists or deletes."""
        return _MEMORY_LOCK if self.protocol == "memory" else contextlib.nullcontext()

    def _may_hold_objects(self, folder: str) -> bool:
        try:
            self.path_of(folder)
        except InvalidNameError:
            return False
        return True

    def _check_writable(self) -> None:
        if not self.writable:
            raise AccessError(f"{self.url} is read-only; write to a file or s3 workspace")

    def _check_listable(self) -> None:
        if self._is_http:
            raise ForbiddenError(
                f"{self.url} cannot be listed; read what its catalog's index names"
            )
