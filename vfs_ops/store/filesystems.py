"""fsspec's file systems, made once a process and configured by the user's environment.

Endpoint, credentials, ``anon`` and ``requester_pays`` come from fsspec's own configuration and from
the environment of the cloud's tools. Added here is what the user is not asked for: time limits, no
cache of listings, in which what others write would never show, and no retries, since `attempts`
repeats what may pass.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import fsspec

from vfs_ops.errors import MissingDependencyError
from vfs_ops.store.urls import LOCAL_PROTOCOLS

CONNECT_SECONDS = 10
"""For a connection to open."""
READ_SECONDS = 30
"""For the next bytes of an answer to come."""
CONNECTIONS: Final = 64
"""To one host at a time."""

PACKAGES: Final = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
}


@lru_cache(maxsize=64)
def filesystem(protocol: str) -> Any:
    """Return the file system of a protocol.

    Raises
    ------
    MissingDependencyError
        If the protocol needs a package that is not installed.
    """
    try:
        made = fsspec.filesystem(protocol, **options(protocol))
    except ImportError as error:
        raise MissingDependencyError(
            f"{protocol}:// needs a package ({error}); install it: pip install {PACKAGES[protocol]}"
        ) from error
    if protocol == "s3":
        made.retries = 1
    return made


def options(protocol: str) -> dict[str, Any]:
    """Return what a file system is made with, beside the user's configuration of fsspec."""
    if protocol in LOCAL_PROTOCOLS:
        return {}
    return {"use_listings_cache": False, **_LIMITS.get(protocol, dict)()}


def self_reliant_options(protocol: str) -> dict[str, Any]:
    """Return options for a file system that others use: it repeats by itself what may pass."""
    if protocol == "s3":
        return {"use_listings_cache": False, "config_kwargs": _s3_config()}
    if protocol == "https":
        return {**options(protocol), "allow_redirects": False}  # a workspace stays on its server
    return options(protocol)


def _s3_config() -> dict[str, Any]:
    return {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "max_pool_connections": CONNECTIONS,
        **_configured("config_kwargs", "s3", "s3a"),
    }


def _s3() -> dict[str, Any]:
    config = {**_s3_config(), "retries": {"total_max_attempts": 1}}
    # with more than one, s3fs asks for the size before it reads a whole object
    return {"config_kwargs": config, "max_concurrency": 1}


def _http() -> dict[str, Any]:
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
    return {"client_kwargs": {"timeout": timeout, **_configured("client_kwargs", "http", "https")}}


def _configured(name: str, *protocols: str) -> dict[str, Any]:
    """Return an option that the user configured; what is given to fsspec would replace it whole."""
    found = (fsspec.config.conf.get(protocol, {}).get(name) or {} for protocol in protocols)
    return {key: value for part in found for key, value in part.items()}


_LIMITS: Final = {"s3": _s3, "http": _http, "https": _http}
