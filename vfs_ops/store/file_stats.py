"""What is known of files without reading them: size, change token, time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


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
    changed: datetime | None = field(default=None, compare=False)
    """When it was last written, by the store's clock; None where that is not told."""


def file_stat(path: str, info: dict[str, Any]) -> FileStat:
    """Return what a file system's description of a file tells, whatever it calls it."""
    size = int(info.get("size") or 0)
    names = ("mtime", "LastModified", "Last-Modified", "last_modified", "updated", "created")
    changed = next((info[name] for name in names if info.get(name)), None)
    etag = info.get("ETag") or info.get("etag")
    if etag:
        token = f"etag:{str(etag).strip(chr(34))}"
    else:
        token = "" if changed is None else f"time:{size}:{changed}"
    return FileStat(path, size, token, _time(changed))


def _time(told: Any) -> datetime | None:
    if isinstance(told, datetime):
        return told if told.tzinfo else told.replace(tzinfo=UTC)
    return datetime.fromtimestamp(told, UTC) if isinstance(told, int | float) else None


def walk_local(root: str, folder: str) -> Iterator[FileStat]:
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
                    yield file_stat(path, {"size": status.st_size, "mtime": status.st_mtime})
