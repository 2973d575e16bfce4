"""Which URLs and local paths may be opened. They are untrusted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from vfs_ops.errors import InvalidUrlError

WORKSPACE_PROTOCOLS: Final = ("file", "s3", "https", "memory")
SOURCE_PROTOCOLS: Final = ("file", "s3", "gs", "az", "abfs", "https", "http", "memory")
LOCAL_PROTOCOLS: Final = ("file", "memory")
"""Of what is on this machine."""
REMOTE_PROTOCOLS: Final = tuple(p for p in SOURCE_PROTOCOLS if p not in LOCAL_PROTOCOLS)

_UNCLEAN: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # controls, lone surrogates

# Whole names of parameters, in lower case without '-' and '_'. An Azure signature has `sig`.
_SECRETS: Final = frozenset(
    [
        *("sig", "signature", "credential", "awsaccesskeyid", "accesskey", "key", "apikey"),
        *("token", "accesstoken", "auth", "password", "secret"),
    ]
)
_SECRET_PREFIXES: Final = ("xamz", "xgoog")


def normalize_url(text: str, protocols: tuple[str, ...] = WORKSPACE_PROTOCOLS) -> str:
    """Return a URL or local path as a URL without a trailing slash.

    Parameters
    ----------
    text
        A URL, or a local path (``~`` is expanded).
    protocols
        The protocols that are allowed.

    Raises
    ------
    InvalidUrlError
        If it is malformed, the protocol is not allowed, protocols are chained (``::``), or the URL
        holds a user, a password, a signature or a key.
    """
    if "::" in text:
        raise InvalidUrlError(f"{text[:200]!r} chains protocols with '::'; give one plain URL")
    if "\x00" in text or not text:
        raise InvalidUrlError(f"{text[:200]!r} is no URL or path; give one")
    if "://" not in text:
        return _local_url(text, protocols)
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    if scheme not in protocols:
        raise InvalidUrlError(
            f"{scheme[:40]}:// is not supported here; expected one of {', '.join(protocols)}"
        )
    rest = rest.rstrip("/")
    if scheme in LOCAL_PROTOCOLS:
        if "@" in rest.partition("/")[0]:
            raise InvalidUrlError(f"a {scheme}:// URL holds a user; give the path alone")
        return f"{scheme}://{rest or ('/' if scheme == 'file' else '')}"
    _check_remote(text)
    if not rest:
        raise InvalidUrlError(f"{text[:200]!r} names no host or bucket; give one")
    return f"{scheme}://{rest}"


def _local_url(text: str, protocols: tuple[str, ...]) -> str:
    if "file" not in protocols:
        raise InvalidUrlError(
            f"{text[:200]!r} is a local path; expected a URL with one of {', '.join(protocols)}"
        )
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise InvalidUrlError(
            f"{text[:200]!r} names a home that is not there; give the whole path"
        ) from error
    return "file://" + (path.absolute().as_posix().rstrip("/") or "/")


def _check_remote(text: str) -> None:
    try:
        parts = urlsplit(text)
        _ = parts.port  # parsed only now
    except ValueError as error:
        raise InvalidUrlError(f"this is no URL ({error}); correct its host or port") from error
    if parts.username or parts.password:
        raise InvalidUrlError(
            f"the URL of host {parts.hostname} holds a user or password; put credentials into the "
            "environment or fsspec's configuration instead"
        )
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if any(_is_secret(name) for name in names):
        raise InvalidUrlError(
            f"the URL of host {parts.hostname} carries a signature or key; signed URLs expire and "
            "are secrets, so give the plain URL and put credentials into the environment"
        )
    if _UNCLEAN.search(text):
        raise InvalidUrlError(f"{text[:200]!a} holds control characters; correct the URL")


def _is_secret(name: str) -> bool:
    plain = name.lower().replace("-", "").replace("_", "")
    return plain in _SECRETS or plain.startswith(_SECRET_PREFIXES)
