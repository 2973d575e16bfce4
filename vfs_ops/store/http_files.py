"""Reading files over HTTP through fsspec's session, with every status checked.

fsspec's own `info` takes every failure for a missing file, and its `cat_file` reads answers of any
length and does not see that a server ignores ranges.
"""

from __future__ import annotations

import math
from typing import Any, Final

from fsspec.asyn import sync

from vfs_ops.errors import InvalidUrlError, StorageError
from vfs_ops.store.failures import status_error

PROTOCOLS: Final = ("http", "https")

_BLOCK_BYTES: Final = 2**16
_PARTIAL: Final = 206
_FAILED: Final = 300  # redirects are followed; one that is left leads nowhere
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_MOST_REDIRECTS: Final = 5


def read_http(
    filesystem: Any,
    url: str,
    start: int | None = None,
    stop: int | None = None,
    limit: int | None = None,
    *,
    stay: bool = False,
) -> bytes:
    """Read a file, or its bytes `start` to `stop`; a negative start counts from the end.

    Parameters
    ----------
    filesystem
        fsspec's ``HTTPFileSystem``.
    url
        Of the file.
    start, stop
        As in a slice; None means from the beginning, and to the end.
    limit
        Bytes at which reading stops; a longer file is cut there.
    stay
        Follow no redirect to another host, port or protocol.

    Raises
    ------
    NotFoundError, AccessError, UnavailableError
        By the status of the answer.
    StorageError
        If the server ignores ranges, or leads away.
    """
    if stop is not None and start is not None and 0 <= stop <= start:
        return b""
    if stop is not None:
        length = stop - (start or 0)
        limit = length if limit is None else min(limit, length)
    data: bytes = sync(filesystem.loop, _read, filesystem, url, _range(start, stop), limit, stay)
    return data


def http_info(filesystem: Any, url: str, *, stay: bool = False) -> dict[str, Any]:
    """Return the headers of a file that tell its size and whether it has changed.

    `stay` is as for `read_http`.

    Returns
    -------
    dict
        ``size``, ``ETag`` and ``Last-Modified``; None where the server does not tell.

    Raises
    ------
    NotFoundError, AccessError, UnavailableError, StorageError
        By the status of the answer, or if it leads away.
    """
    found: dict[str, Any] = sync(filesystem.loop, _info, filesystem, url, stay)
    return found


def _range(start: int | None, stop: int | None) -> str | None:
    if not start and stop is None:
        return None
    if start is not None and start < 0:
        return f"bytes={start}"
    return f"bytes={start or 0}-{'' if stop is None else stop - 1}"


async def _read(
    filesystem: Any, url: str, wanted: str | None, limit: int | None, stay: bool
) -> bytes:
    headers = {"Range": wanted} if wanted else {}
    blocks: list[bytes] = []
    size, most = 0, math.inf if limit is None else limit
    async with await _ask(filesystem, "get", url, headers, stay) as answer:
        _check(answer, url)
        if wanted and answer.status != _PARTIAL:
            raise StorageError(
                f"{url}: asked for {wanted} and got all; the server ignores ranges; use one that "
                "honours them"
            )
        async for block in answer.content.iter_chunked(_BLOCK_BYTES):
            blocks.append(block)
            size += len(block)
            if size >= most:
                blocks[-1] = block[: len(block) - int(size - most)]
                break
    return b"".join(blocks)  # the only copy


async def _info(filesystem: Any, url: str, stay: bool) -> dict[str, Any]:
    async with await _ask(filesystem, "head", url, {}, stay) as answer:
        if answer.status < _FAILED:
            return _facts(answer)
    # some servers refuse HEAD alone; the body is not read
    async with await _ask(filesystem, "get", url, {}, stay) as answer:
        _check(answer, url)
        return _facts(answer)


async def _ask(filesystem: Any, method: str, url: str, headers: dict[str, str], stay: bool) -> Any:
    session = await filesystem.set_session()
    # identity: else sizes and ranges would be those of a compressed stream
    headers = {"Accept-Encoding": "identity", **headers}
    try:
        target = filesystem.encode_url(url)
        for _ in range(_MOST_REDIRECTS):
            answer = await session.request(
                method, target, headers=headers, allow_redirects=not stay
            )
            if answer.status not in _REDIRECTS or "Location" not in answer.headers:
                return answer
            answer.close()
            target = _beside(answer, url)
    except ValueError as error:  # also of a host that has no encoding
        raise InvalidUrlError(f"{url[:200]!r} cannot be asked for: {error}; correct it") from error
    raise StorageError(f"{url}: the server redirects in circles; check the URL")


def _beside(answer: Any, url: str) -> Any:
    """Return where a redirect leads, on the same server."""
    target = answer.url.join(type(answer.url)(answer.headers["Location"]))
    if target.origin() != answer.url.origin():
        raise StorageError(
            f"{url}: the server leads away to {str(target.origin())[:200]!r}, where nobody asked "
            "to go; if you trust that, give the URL there"
        )
    return target


def _check(answer: Any, url: str) -> None:
    if answer.status >= _FAILED:
        raise status_error(answer.status, url)


def _facts(answer: Any) -> dict[str, Any]:
    length = answer.headers.get("Content-Length", "")
    plain = answer.headers.get("Content-Encoding", "identity") == "identity"
    return {
        "size": int(length) if plain and length.isdecimal() else None,
        "ETag": answer.headers.get("ETag"),
        "Last-Modified": answer.headers.get("Last-Modified"),
    }
