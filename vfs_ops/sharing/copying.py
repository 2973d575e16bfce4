"""Copying objects from one workspace to another, each checked before it is written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from vfs_ops.caches.layout import sha256
from vfs_ops.errors import DamagedError, ForbiddenError, NotFoundError
from vfs_ops.store.workspace import Workspace

Check = Callable[[bytes], bool]

_ADVICE: Final = "verify and repair it there, then mirror again"


@dataclass
class Copier:
    """Copies what is not in the target yet; thread-safe. Counts what it does."""

    source: Workspace
    target: Workspace
    before_replacing: Callable[[], None] = lambda: None
    """Called before an object of the target is written over; raises where it may not be."""
    copied_objects: int = 0
    copied_bytes: int = 0
    kept_objects: int = 0
    """Objects that were in the target already, as they should be."""
    _there: set[str] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def look_around(self, prefix: str) -> None:
        """List what the target has below a prefix, so that only that is looked at again."""
        self._there.update(stat.path for stat in self.target.walk(prefix))

    def copy(self, key: str, right: Check, most: int) -> None:
        """Bring an object to the target, unless it is there and right.

        Parameters
        ----------
        key
            In both workspaces.
        right
            Tells whether bytes are those that belong there.
        most
            Bytes that may belong there.

        Raises
        ------
        DamagedError
            If the source's are not, or it has none.
        """
        stored = self._stored(key, most) if key in self._there else None
        if stored is not None and right(stored):
            self._count(kept=1)
            return
        try:
            data = self.source.read(key, most=most)
        except (NotFoundError, ForbiddenError) as error:
            raise DamagedError(f"{self.source.url}/{key} is missing; {_ADVICE}") from error
        if not right(data):
            raise DamagedError(
                f"{self.source.url}/{key} ({len(data)} bytes) is not what was written; {_ADVICE}"
            )
        self.write(key, data)

    def write(self, key: str, data: bytes) -> None:
        """Write an object to the target, over another one; nothing if it is there already."""
        if not self.target.create(key, data):
            if self._stored(key, len(data)) == data:
                self._count(kept=1)
                return
            self.before_replacing()
            self.target.replace(key, data)
        self._count(copied=1, size=len(data))

    def _stored(self, key: str, most: int) -> bytes | None:
        """Read what the target has; None also if that is longer than what belongs there."""
        try:
            return self.target.read_optional(key, most=most)
        except DamagedError:
            return None

    def _count(self, *, copied: int = 0, kept: int = 0, size: int = 0) -> None:
        with self._lock:
            self.copied_objects += copied
            self.kept_objects += kept
            self.copied_bytes += size


def has_digest(digest: str) -> Check:
    """Return a check by SHA-256, given in hexadecimal digits."""
    return lambda data: sha256(data) == digest
