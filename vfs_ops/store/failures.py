"""What file systems and their network libraries raise, as the errors of this project."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from typing import Final

from vfs_ops.errors import (
    AccessError,
    ForbiddenError,
    InvalidUrlError,
    NotFoundError,
    StorageError,
    StorageFullError,
    UnavailableError,
    VfsError,
)

GONE: Final = (404, 410)
"""HTTP statuses that say that there is no such file. No other status says so."""

_REFUSED: Final = (401, 407)
_FORBIDDEN: Final = 403
_PRECONDITION_FAILED: Final = 412
_NO_RANGE: Final = 416
_FULL: Final = 507

# Request timeout, too early, too many requests. Of the server's own errors all but those that
# stay: not implemented, version not supported.
_PASSING: Final = (408, 425, 429)
_STAYING: Final = (501, 505)
_SERVER_ERRORS: Final = 500

_EXPIRED_CODES: Final = (
    *("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"),
    *("InvalidToken",),
)
_REFUSED_CODES: Final = (
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "AccountProblem"),
    *("AllAccessDisabled", "NotSignedUp", "InvalidPayer", "InvalidSecurity"),
)
_BUSY_CODES: Final = (
    *("SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "InternalError"),
    *("ServiceUnavailable", "ConditionalRequestConflict", "OperationAborted"),
)
_UNEXPLAINED: Final = ("AccessDenied", "403", "")
_FULL_CODES: Final = ("Quota", "StorageFull", "TooManyObjects")
"""Parts of the codes by which servers say that there is no room: they agree on none."""

_CLIENT_ERRORS: Final = (
    ("aiohttp", "ClientError"),
    ("azure.core.exceptions", "AzureError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("botocore.parsers", "ResponseParserError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
)
"""Base classes of what fsspec's implementations let through as it is: module and name."""

_NO_CREDENTIALS: Final = {"NoCredentialsError", "PartialCredentialsError", "GoogleAuthError"}

_NO_ANSWER: Final = {
    *("ConnectionError", "HTTPClientError", "IncompleteReadError", "FlexibleChecksumError"),
}
"""Those of botocore's errors that may pass; the rest are of its configuration."""

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
        If it refused: no, wrong or expired credentials, or a read-only storage; its subclass
        `ForbiddenError` if it did not say why.
    UnavailableError
        If it did not answer, broke off, or answered that it cannot now.
    StorageFullError, StorageError
        If it is full, or anything else went wrong.
    """
    try:
        yield
    except _loaded_client_errors() as error:
        raise _of_client(error, what) from error
    except OSError as error:
        raise _of_system(error, what) from error


def status_error(status: int, what: str) -> VfsError:
    """Return the error that an HTTP status of 400 or more, or a redirect to nowhere, stands for."""
    if status in GONE:
        return NotFoundError(
            f"{what} is not there (HTTP status {status}); check the name and the workspace"
        )
    if status == _FORBIDDEN:
        return ForbiddenError(
            f"{what}: access refused (HTTP status {status}); check the name and the credentials"
        )
    if status in _REFUSED:
        return AccessError(f"{what}: access refused (HTTP status {status}); check credentials")
    if status == _FULL:
        return StorageFullError(f"{what}: no space left; free some and run again")
    if status in _PASSING or (status >= _SERVER_ERRORS and status not in _STAYING):
        return UnavailableError(f"{what}: no answer (HTTP status {status}); try again later")
    return StorageError(f"{what}: the server answered with HTTP status {status}; check the URL")


def already_there(error: BaseException) -> bool:
    """Tell whether a create-only write failed since the object exists: HTTP status 412 on S3."""
    return isinstance(error, FileExistsError) or _s3_answer(error)[1] == _PRECONDITION_FAILED


def has_no_range(error: BaseException) -> bool:
    """Tell whether a read of a range failed since the object has no byte there: HTTP status 416."""
    return _NO_RANGE in (_s3_answer(error)[1], getattr(error, "code", None))


def s3_error(code: str, status: int, message: str, what: str) -> VfsError:
    """Return the error that an S3 server's code, HTTP status and message stand for."""
    told = f"{code}: {message}" if message else code
    if any(part in code for part in _FULL_CODES):
        return StorageFullError(f"{what}: no space left ({told}); free some and run again")
    if code in _EXPIRED_CODES:
        return AccessError(
            f"{what}: the credentials have expired ({told}); renew them and run again, which goes "
            "on where this stopped"
        )
    if code in _REFUSED_CODES:
        return AccessError(f"{what}: access refused ({told}); check credentials and clock")
    if code in _BUSY_CODES:
        return UnavailableError(f"{what}: no answer ({told}); try again later")
    if code == "NoSuchBucket":
        return NotFoundError(f"{what}: there is no such bucket; make it, or correct the name")
    if status == _FORBIDDEN and code not in _UNEXPLAINED:
        return AccessError(f"{what}: access refused ({told}); check credentials")
    error = status_error(status, what)
    if type(error) is StorageError:
        return StorageError(
            f"{what}: the storage answered {told} (HTTP status {status}); check the endpoint, the "
            "name, and whether the credentials have expired"
        )
    return error


def _of_system(error: OSError, what: str) -> VfsError:
    code, status, message = _s3_answer(error)
    if status:
        return s3_error(code, status, message, what)
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"{what} is not there; check the name and the workspace")
    if isinstance(error, PermissionError):
        return AccessError(f"{what}: access refused ({error}); check credentials")
    if isinstance(error, TimeoutError | ConnectionError) or error.errno in _BUSY:
        return UnavailableError(f"{what}: no answer ({error}); try again later")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(f"{what}: no space left; free some and run again")
    if error.errno == errno.EROFS:
        return AccessError(f"{what}: the storage is read-only")
    return StorageError(f"{what}: {error}")


def _s3_answer(error: BaseException) -> tuple[str, int, str]:
    """Return code, HTTP status and message of what botocore raised; "", 0, "" if it did not."""
    for found in (error, error.__cause__):
        answer = getattr(found, "response", None)
        if isinstance(answer, dict):
            said = answer.get("Error", {})
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return str(said.get("Code", "")), int(status), str(said.get("Message", ""))
    return "", 0, ""


def _loaded_client_errors() -> tuple[type[Exception], ...]:
    """Return the classes of libraries that are in use; the others cannot have raised anything."""
    loaded = ((sys.modules.get(module), name) for module, name in _CLIENT_ERRORS)
    return tuple(getattr(module, name) for module, name in loaded if hasattr(module, name))


def _of_client(error: Exception, what: str) -> VfsError:
    if isinstance(error, ValueError):  # aiohttp's InvalidURL
        return InvalidUrlError(f"{what} cannot be asked for: {error}; correct the URL")
    code, answered, message = _s3_answer(error)
    if answered:
        return s3_error(code, answered, message, what)
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
    classes = {cls.__name__ for cls in type(error).__mro__}
    if classes & _NO_CREDENTIALS:
        return AccessError(
            f"{what}: {error}; put credentials into the environment, or "
            "set FSSPEC_S3='{\"anon\": true}' to read what is public"
        )
    if "BotoCoreError" in classes and not classes & _NO_ANSWER:
        return StorageError(f"{what}: {error}; check name, endpoint and configuration")
    return UnavailableError(f"{what}: no answer ({error}); try again later")
