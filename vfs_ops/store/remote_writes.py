"""Writing and removing objects of a store that is no local file system."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from fsspec.asyn import sync

from vfs_ops.store.failures import s3_error

SINGLE_PUT: Final = 5 * 2**30
"""Bytes below which an object is written by one request. S3 takes no more in one, and not every
server keeps a create-only write made of parts from replacing what is there."""

ANSWER_SECONDS = 60
"""For a write to be answered, beside the time of its bytes."""
BYTES_PER_SECOND: Final = 100_000
"""What a write must reach at least, or it counts as stuck."""

_KEYS_PER_REQUEST: Final = 1000
_WRITER: Final = "vfs-writer"


def create(filesystem: Any, path: str, data: bytes, writer: str) -> None:
    """Write an object that must not exist yet.

    Parameters
    ----------
    filesystem, path, data
        Where, and what.
    writer
        Stored beside the object where the store can, for `is_of`: a name for this one write.

    Raises
    ------
    FileExistsError, OSError
        If it exists; `failures.already_there` tells.
    """
    options: dict[str, Any] = {"Metadata": {_WRITER: writer}} if _is_s3(filesystem) else {}
    _put(filesystem, path, data, mode="create", **options)


def is_of(filesystem: Any, path: str, writer: str) -> bool:
    """Tell whether an object that is there was written by the write of that name."""
    if not _is_s3(filesystem):
        return False
    try:
        found: dict[str, str] = filesystem.metadata(path, refresh=True)
    except FileNotFoundError:
        return False  # deleted meanwhile
    return found.get(_WRITER) == writer


def replace(filesystem: Any, path: str, data: bytes) -> None:
    """Write an object over whatever is there."""
    _put(filesystem, path, data)


def _put(filesystem: Any, path: str, data: bytes, **options: Any) -> None:
    if not _is_s3(filesystem):
        filesystem.pipe_file(path, data, **options)
        return
    seconds = ANSWER_SECONDS + len(data) / BYTES_PER_SECOND
    work = filesystem._pipe_file(path, data, chunksize=SINGLE_PUT, **options)
    sync(filesystem.loop, _within, work, seconds)


def _is_s3(filesystem: Any) -> bool:
    return "s3" in filesystem.protocol


def remove(filesystem: Any, path: str) -> None:
    """Remove an object, or everything below a prefix.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    """
    if not _is_s3(filesystem):
        filesystem.rm(path, recursive=True)
        return
    remove_objects(filesystem, list(filesystem.find(path)))


def remove_objects(filesystem: Any, paths: list[str]) -> None:
    """Remove objects; those that are not there do not matter."""
    if not _is_s3(filesystem):
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                filesystem.rm(path)
        return
    keys = [filesystem.split_path(path)[:2] for path in paths]
    for start in range(0, len(keys), _KEYS_PER_REQUEST):
        batch = keys[start : start + _KEYS_PER_REQUEST]
        # s3fs's own does not look at the keys that were refused
        wanted = {"Objects": [{"Key": key} for _, key in batch], "Quiet": True}
        answer = filesystem.call_s3("delete_objects", Bucket=batch[0][0], Delete=wanted)
        for error in answer.get("Errors", ()):
            code, message = error.get("Code", ""), error.get("Message", "")
            raise s3_error(code, 403, message, f"s3://{batch[0][0]}/{error.get('Key', '')}")


async def _within(work: Any, seconds: float) -> Any:
    return await asyncio.wait_for(work, seconds)
