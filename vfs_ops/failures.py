"""What file systems and their network libraries raise, as the errors of this project."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from typing import Final

from vfs_ops.errors import (
    AccessError,
    InvalidUrlError,
    NotFoundError,
    StorageError,
    StorageFullError,
    UnavailableError,
    VfsError,
)

GONE: Final = (404, 410)
"""HTTP statuses that say that there is no such file. No other status says so."""

_REFUSED: Final = (401, 403, 407)

_PRECONDITION_FAILED: Final = 412

_CLIENT_ERRORS: Final = (
    ("aiohttp", "ClientError"),
    ("azure.core.exceptions", "AzureError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
)
"""Base classes of what fsspec's implementations let through as it is: module and name."""

_NO_CREDENTIALS: Final = ("NoCredentialsError", "PartialCredentialsError", "GoogleAuthError")

_BUSY: Final = (errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO))
"""What s3fs makes of the answers 503 and 500."""


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn what a file system raises into the errors of this project.

    Raises
    ------
    NotFoundError
        If the storage said that there is no such file: HTTP status 404 or 410.
    AccessError
        If it refused: no or wrong credentials, or a read-only storage.
    UnavailableError
        If it did not answer, or with any other status, or broke off.
    StorageFullError, StorageError
        If it is full, or anything else went wrong.
    """
    try:
        yield
    except _loaded_client_errors() as error:
        raise _of_client(error, what) from error
    except FileNotFoundError as error:
        raise NotFoundError(f"{what} is not there; check the name and the workspace") from error
    except PermissionError as error:
        raise AccessError(f"{what}: access refused ({error}); check credentials") from error
    except (TimeoutError, ConnectionError) as error:
        raise UnavailableError(f"{what}: no answer ({error}); try again later") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(f"{what}: no space left; free some and run again") from error
        if error.errno == errno.EROFS:
            raise AccessError(f"{what}: the storage is read-only") from error
        if error.errno in _BUSY:
            raise UnavailableError(f"{what}: no answer ({error}); try again later") from error
        raise StorageError(f"{what}: {error}") from error


def status_error(status: int, what: str) -> VfsError:
    """Return the error that an HTTP status of 400 or more, or a redirect to nowhere, stands for."""
    if status in GONE:
        return NotFoundError(
            f"{what} is not there (HTTP status {status}); check the name and the workspace"
        )
    if status in _REFUSED:
        return AccessError(f"{what}: access refused (HTTP status {status}); check credentials")
    return UnavailableError(f"{what}: no answer (HTTP status {status}); try again later")


def already_there(error: BaseException) -> bool:
    """Tell whether a create-only write failed since the object exists: HTTP status 412 on S3."""
    response = getattr(error.__cause__, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return isinstance(error, FileExistsError) or status == _PRECONDITION_FAILED


def _loaded_client_errors() -> tuple[type[Exception], ...]:
    """Return the classes of libraries that are in use; the others cannot have raised anything."""
    loaded = ((sys.modules.get(module), name) for module, name in _CLIENT_ERRORS)
    return tuple(getattr(module, name) for module, name in loaded if hasattr(module, name))


def _of_client(error: Exception, what: str) -> VfsError:
    if isinstance(error, ValueError):  # aiohttp's InvalidURL
        return InvalidUrlError(f"{what} cannot be asked for: {error}; correct the URL")
    status = next(
        (
            found
            for name in ("status", "status_code", "code")
            if isinstance(found := getattr(error, name, None), int)
        ),
        None,
    )
    if status:
        return status_error(status, what)
    if any(cls.__name__ in _NO_CREDENTIALS for cls in type(error).__mro__):
        return AccessError(f"{what}: {error}; put credentials into the environment")
    return UnavailableError(f"{what}: no answer ({error}); try again later")
