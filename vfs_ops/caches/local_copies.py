"""Copies of read shards on local disk: the second search of a remote cache reads them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from vfs_ops.caches.cache_reading import ShardStore
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shard_sources import (
    Bytes,
    ReadCost,
    Scratch,
    ShardArrays,
    decode_stored,
    norm_bytes,
)
from vfs_ops.errors import DamagedError, NotFoundError, QueryError, StorageError
from vfs_ops.store.failures import storage_errors
from vfs_ops.store.locations import Folder
from vfs_ops.store.traffic import counting
from vfs_ops.store.workspace import Workspace

_SUFFIX: Final = ".shard"
_WRITING: Final = ".writing"
_told: set[str] = set()
"""Folders of which it was said that they keep nothing."""


class CopiesNotKeptWarning(UserWarning):
    """A folder cannot keep copies of shards, which are read from the store each time."""


@dataclass(frozen=True)
class LocalCopies:
    """A `vfs_ops.caches.shard_sources.ShardSource` that keeps what it reads in a local folder.

    A copy is a file: the stored features and then the stored norms of one shard. Each is checked
    by the shard's receipt whenever it is read, as the store's own bytes are; one that fails is
    thrown away and read from the store again. Files appear whole, by renaming, and a lock on the
    folder is held while room is made, so that processes may share it and its limit. A file's time
    of change is the time of its last use. A folder that is full or read-only, or holds what this
    user may not read, ends no search: what it has is used, and a `CopiesNotKeptWarning` says once
    that it keeps nothing more.
    """

    store: ShardStore
    directory: str
    max_bytes: int

    @classmethod
    def at(cls, workspace: Workspace, plan: Plan, directory: str | Path, max_bytes: int) -> Self:
        """Return the copies in a folder, which need not exist yet.

        Raises
        ------
        QueryError
            If the limit is not a positive number of bytes.
        """
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
            raise QueryError(f"max_bytes is {max_bytes!r}; expected a number of bytes from 1 up")
        folder = Path(directory).expanduser().resolve()
        return cls(ShardStore(workspace, plan), str(folder), max_bytes)

    def read(
        self, receipt: Receipt, wanted: NDArray[np.intp] | None, scratch: Scratch | None
    ) -> ShardArrays:
        """Read a shard from its copy, or from the store; whole shards are then kept."""
        scratch = Scratch() if scratch is None else scratch
        found = self._copy_of(receipt, scratch)
        if found is not None:
            return found
        if wanted is not None:
            return self.store.read(receipt, wanted, scratch)
        started = time.perf_counter()
        with counting() as traffic:
            features, norms = self.store.fetch(receipt, scratch)
        cost = ReadCost(traffic.requests, traffic.bytes_read, time.perf_counter() - started)
        arrays = decode_stored(features, norms, receipt, self.store.plan, scratch, cost)
        try:
            self._keep(receipt, features, norms)
        except StorageError as error:
            self._tell(error)
        return arrays

    def read_features(self, receipt: Receipt, wanted: NDArray[np.intp]) -> NDArray[np.floating]:
        """Read the feature maps of some rows, from the copy if there is one."""
        found = self._copy_of(receipt, Scratch())
        if found is not None:
            return found.features[wanted]
        return self.store.read_features(receipt, wanted)

    def _copy_of(self, receipt: Receipt, scratch: Scratch) -> ShardArrays | None:
        """Read the copy, if there is one, and if it may be read: it may be somebody else's."""
        try:
            return self._read_copy(receipt, scratch)
        except StorageError as error:
            self._tell(error)
            return None

    def _path(self, receipt: Receipt) -> Path:
        return Path(self.directory, f"{self.store.plan.cache}-{receipt.shard:05d}{_SUFFIX}")

    def _read_copy(self, receipt: Receipt, scratch: Scratch) -> ShardArrays | None:
        path, started = self._path(receipt), time.perf_counter()
        size = receipt.feature_bytes
        room = scratch.memory("stored", size + norm_bytes(self.store.plan))
        try:
            data = Folder.at(self.directory).read_into(path.name, room)
            cost = ReadCost(reading=time.perf_counter() - started)
            arrays = decode_stored(
                data[:size], data[size:], receipt, self.store.plan, scratch, cost
            )
        except NotFoundError:
            return None
        except DamagedError:
            with contextlib.suppress(OSError):  # of a read-only folder it is left
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # so too; or another process made room meanwhile
            os.utime(path)
        return arrays

    def _keep(self, receipt: Receipt, features: Bytes, norms: Bytes) -> None:
        size, path = len(features) + len(norms), self._path(receipt)
        if size > self.max_bytes:
            return
        with storage_errors(self.directory):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path.parent):
                if path.exists():
                    return
                self._make_room(size)
                temporary = path.with_name(_WRITING)  # of a killed process, too: it is replaced
                try:
                    with temporary.open("wb") as file:
                        file.write(features.data)
                        file.write(norms.data)
                    temporary.replace(path)
                finally:
                    temporary.unlink(missing_ok=True)

    def _tell(self, error: StorageError) -> None:
        """Warn, once a process, that the folder keeps nothing."""
        if self.directory not in _told:
            _told.add(self.directory)
            warnings.warn(
                f"{self.directory} keeps no copies of what is read ({error}); the search goes on "
                "and reads the store each time; make room, or give another folder",
                CopiesNotKeptWarning,
                stacklevel=2,
            )

    def _make_room(self, size: int) -> None:
        """Delete what was not used for longest, until `size` more bytes fit."""
        held = []
        for entry in os.scandir(self.directory):
            if entry.name.endswith(_SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    held.append((status.st_mtime_ns, status.st_size, entry.path))
        total = sum(length for _, length, _ in held)
        for _, length, path in sorted(held):
            if total + size <= self.max_bytes:
                break
            Path(path).unlink(missing_ok=True)
            total -= length


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
