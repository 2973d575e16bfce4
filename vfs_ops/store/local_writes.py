"""Writing and removing files of a local workspace, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from vfs_ops.errors import StorageError

TEMPORARY: Final = re.compile(r"\..{1,80}\.[0-9a-f]{16}")
"""Names of files that a write which was killed may leave."""

_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_MKDIR_ATTEMPTS: Final = 100


def create(path: Path, data: bytes) -> bool:
    """Write a file that must not exist yet; return False if it does.

    Raises
    ------
    StorageError
        If the file system has no hard links.
    """
    if path.exists():
        return False
    with temporary_sibling(path, data) as temporary:
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
def temporary_sibling(path: Path, data: bytes) -> Iterator[Path]:
    """Write a file beside a path, flushed to disk; it is gone at the end of the context."""
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}")
    try:
        with _opened(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def remove(path: Path, root: Path) -> None:
    """Remove a file, and those of the folders above it, up to a root, that it leaves empty."""
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == root or not folder.is_relative_to(root):
            return
        try:
            folder.rmdir()
        except OSError:
            return  # not empty, or being written to


def _opened(path: Path) -> BinaryIO:
    """Open a new file, making its folder, which somebody else may be clearing away."""
    for _ in range(_MKDIR_ATTEMPTS):
        # cleared away before the file was in it, or while `mkdir` looked what is there
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("xb")
