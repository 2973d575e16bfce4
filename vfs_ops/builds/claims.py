"""Who is building a cache: small records that expire unless they are renewed.

A claim excludes nobody. Builders side by side share the work, since what is stored is created once
and completeness is what receipts say; claims tell people who else is at it, tell builders to go
through the shards in different orders, and tell a cleaner what to leave alone.

Each builder writes one object of its own, ``claims/<cache id>/<builder>.json``, renews it while it
lives, and removes it at its end. Who dies leaves one that expires. Clocks of machines may differ
by a minute or so; the lifetime allows for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from vfs_ops.errors import DamagedError, NotFoundError, StorageError
from vfs_ops.identity.canonical import FORMATS, canonical_json, check_format, parse_json
from vfs_ops.store.locations import MAX_DOCUMENT_BYTES
from vfs_ops.store.workspace import Workspace

LIFETIME: Final = timedelta(seconds=180)
"""A claim that was not renewed for this long is of a dead builder."""
RENEWAL_SECONDS: Final = 30.0
"""Between two renewals."""

_BUILDER: Final = re.compile(r"[0-9a-f]{16}")
_MAX_PID: Final = 1 << 32


@dataclass(frozen=True)
class Claim:
    """That somebody is building a cache."""

    cache: str
    """Cache id."""
    builder: str
    """16 random hexadecimal digits."""
    host: str
    pid: int
    since: datetime
    """When the build began, UTC."""
    expires: datetime
    """When the claim ends unless it is renewed, UTC."""

    def __str__(self) -> str:
        host = "".join(letter if letter.isprintable() else "?" for letter in self.host[:100])
        return f"process {self.pid} on {host}, since {self.since:%Y-%m-%d %H:%M:%S} UTC"

    def encode(self) -> bytes:
        """Return the claim as a small JSON object."""
        times = {"since": self.since.isoformat(), "expires": self.expires.isoformat()}
        return canonical_json(
            {"kind": "claim", "format": FORMATS["claim"], **vars(self), **times},
        )

    @classmethod
    def decode(cls, data: bytes, key: str) -> Claim:
        """Read back what `encode` wrote.

        Raises
        ------
        DamagedError, NewerFormatError
            If it is no claim, or of a newer format.
        """
        document = parse_json(data, key)
        check_format(document, "claim", key)
        return cls(
            cache=_text(document, "cache", key),
            builder=_text(document, "builder", key),
            host=_text(document, "host", key),
            pid=_pid(document, key),
            since=_time(document, "since", key),
            expires=_time(document, "expires", key),
        )


def active(workspace: Workspace, cache_id: str, *, now: datetime | None = None) -> list[Claim]:
    """Return the claims on a cache that have not expired, the oldest first.

    Parameters
    ----------
    workspace, cache_id
        Where, and of what.
    now
        The time, UTC; by this machine's clock if None.

    Raises
    ------
    DamagedError, NewerFormatError
        If there is a claim that cannot be read, so that nobody can say whether it has expired.
    """
    now = now or datetime.now(UTC)
    found = [claim for _, claim in _stored(workspace, cache_id) if claim.expires > now]
    return sorted(found, key=lambda claim: (claim.since, claim.builder))


@dataclass(frozen=True)
class Held:
    """The claims of one build, while it runs."""

    builder: str
    others: tuple[Claim, ...]
    """Who was at work on any of the caches when this build began."""


@contextlib.contextmanager
def held(
    workspace: Workspace, cache_ids: Sequence[str], *, renewal: float = RENEWAL_SECONDS
) -> Iterator[Held]:
    """Claim caches for as long as the context lasts; expired claims on them are removed.

    Parameters
    ----------
    workspace, cache_ids
        Where, and of what.
    renewal
        Seconds between renewals.
    """
    builder, since = secrets.token_hex(8), datetime.now(UTC)
    others: list[Claim] = []

    def write() -> None:
        expires = datetime.now(UTC) + LIFETIME
        for cache_id in cache_ids:
            claim = Claim(cache_id, builder, socket.gethostname(), os.getpid(), since, expires)
            workspace.replace(_key(cache_id, builder), claim.encode())

    for cache_id in cache_ids:
        for key, claim in _stored(workspace, cache_id):
            if claim.expires > since:
                others.append(claim)
            else:
                workspace.delete(key)
    write()
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(renewal):
            # Who is cut off from the storage hears of it from the work itself; here the claim
            # expires, or is renewed next time.
            with contextlib.suppress(StorageError):
                write()

    heart = threading.Thread(target=renew, name="vfs-claims", daemon=True)
    heart.start()
    try:
        yield Held(builder, tuple(sorted(others, key=lambda claim: (claim.since, claim.builder))))
    finally:
        ended.set()
        heart.join()
        with contextlib.suppress(StorageError):  # expires by itself
            for cache_id in cache_ids:
                workspace.delete(_key(cache_id, builder))


def _key(cache_id: str, builder: str) -> str:
    return f"claims/{cache_id}/{builder}.json"


def _stored(workspace: Workspace, cache_id: str) -> Iterator[tuple[str, Claim]]:
    for name in workspace.names(f"claims/{cache_id}"):
        builder, key = name.removesuffix(".json"), f"claims/{cache_id}/{name}"
        try:
            claim = Claim.decode(workspace.read(key, most=MAX_DOCUMENT_BYTES), key)
        except NotFoundError:
            continue  # its builder has just finished
        if _BUILDER.fullmatch(builder) is None or (claim.cache, claim.builder) != (
            cache_id,
            builder,
        ):
            raise _malformed(key, "it speaks of another cache or builder")
        yield key, claim


def _malformed(key: str, why: str) -> DamagedError:
    return DamagedError(f"{key} is no claim: {why}; delete it if no build is running")


def _text(document: dict[str, Any], name: str, key: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise _malformed(key, f"{name} is {value!r:.60}")
    return value


def _pid(document: dict[str, Any], key: str) -> int:
    value = document.get("pid")
    if type(value) is not int or not 0 <= value < _MAX_PID:
        raise _malformed(key, f"pid is {value!r:.60}")
    return value


def _time(document: dict[str, Any], name: str, key: str) -> datetime:
    try:
        value = datetime.fromisoformat(_text(document, name, key))
    except ValueError as error:
        raise _malformed(key, f"{name} is no time") from error
    if value.tzinfo is None:
        raise _malformed(key, f"{name} has no time zone")
    return value.astimezone(UTC)
