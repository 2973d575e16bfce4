"""What file systems raise, as typed errors."""

import errno
import pickle
from typing import Any

import aiohttp
import pytest
from botocore import exceptions, parsers
from s3fs.errors import translate_boto_error
from yarl import URL

from vfs_ops.errors import (
    AccessError,
    ForbiddenError,
    InvalidUrlError,
    NotFoundError,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from vfs_ops.store.failures import storage_errors


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (FileNotFoundError(2, "x"), NotFoundError),
        (PermissionError(13, "x"), AccessError),
        (OSError(errno.EROFS, "x"), AccessError),
        (OSError(errno.ENOSPC, "x"), StorageFullError),
        (OSError(errno.EDQUOT, "x"), StorageFullError),
        (TimeoutError("x"), UnavailableError),
        (ConnectionResetError("x"), UnavailableError),
        (OSError(errno.EBUSY, "x"), UnavailableError),
        (OSError("x"), StorageError),
    ],
)
def test_errors_are_typed_and_survive_pickling(raised: OSError, error: type[Exception]) -> None:
    with pytest.raises(error, match="the thing") as caught, storage_errors("the thing"):
        raise raised
    assert type(caught.value) is error
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (error, str(caught.value))


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), storage_errors("the thing"):
        raise ZeroDivisionError


def answered(status: int) -> aiohttp.ClientResponseError:
    asked: Any = type("Asked", (), {"real_url": URL("http://host/x")})()
    return aiohttp.ClientResponseError(asked, (), status=status, message="said so")


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (answered(404), NotFoundError),
        (answered(410), NotFoundError),
        (answered(401), AccessError),
        (answered(403), ForbiddenError),
        (answered(400), StorageError),
        (answered(301), StorageError),
        (answered(501), StorageError),
        (answered(507), StorageFullError),
        (answered(408), UnavailableError),
        (answered(429), UnavailableError),
        (answered(500), UnavailableError),
        (answered(503), UnavailableError),
        (aiohttp.ClientPayloadError("cut"), UnavailableError),
        (aiohttp.ServerDisconnectedError(), UnavailableError),
        (aiohttp.ServerTimeoutError(), UnavailableError),
        (aiohttp.InvalidURL("http://x y"), InvalidUrlError),
        (TimeoutError(), UnavailableError),
    ],
)
def test_errors_of_http_are_typed(raised: Exception, error: type[Exception]) -> None:
    with pytest.raises(error, match="the thing") as caught, storage_errors("the thing"):
        raise raised
    assert type(caught.value) is error


def test_errors_of_botocore_are_typed() -> None:
    for raised, error in (
        (exceptions.NoCredentialsError(), AccessError),
        (exceptions.PartialCredentialsError(provider="env", cred_var="x"), AccessError),
        (exceptions.EndpointConnectionError(endpoint_url="http://x"), UnavailableError),
        (exceptions.ReadTimeoutError(endpoint_url="http://x"), UnavailableError),
        (exceptions.ResponseStreamingError(error="cut"), UnavailableError),
        (exceptions.ParamValidationError(report="Invalid bucket name"), StorageError),
        (exceptions.ProfileNotFound(profile="x"), StorageError),
        (parsers.ResponseParserError("no XML"), UnavailableError),
    ):
        with pytest.raises(error, match="the thing") as caught, storage_errors("the thing"):
            raise raised
        assert type(caught.value) is error


@pytest.mark.parametrize("translated", [False, True])
@pytest.mark.parametrize(
    ("code", "status", "error", "words"),
    [
        ("NoSuchKey", 404, NotFoundError, "not there"),
        ("404", 404, NotFoundError, "not there"),
        ("NoSuchBucket", 404, NotFoundError, "bucket"),
        ("AccessDenied", 403, ForbiddenError, "name and the credentials"),
        ("403", 403, ForbiddenError, "name and the credentials"),
        ("InvalidAccessKeyId", 403, AccessError, "check credentials"),
        ("SignatureDoesNotMatch", 403, AccessError, "check credentials"),
        ("RequestTimeTooSkewed", 403, AccessError, "clock"),
        ("InvalidObjectState", 403, AccessError, "InvalidObjectState"),
        ("ExpiredToken", 400, AccessError, "expired.*renew"),
        ("RequestExpired", 400, AccessError, "expired.*renew"),
        ("400", 400, StorageError, "expired"),
        ("QuotaExceeded", 403, StorageFullError, "no space left"),
        ("XMinioAdminBucketQuotaExceeded", 400, StorageFullError, "no space left"),
        ("XMinioStorageFull", 507, StorageFullError, "no space left"),
        ("507", 507, StorageFullError, "no space left"),
        ("SlowDown", 503, UnavailableError, "later"),
        ("InternalError", 500, UnavailableError, "later"),
        ("RequestTimeout", 400, UnavailableError, "later"),
        ("ConditionalRequestConflict", 409, UnavailableError, "later"),
        ("502", 502, UnavailableError, "later"),
        ("NotImplemented", 501, StorageError, "NotImplemented"),
        ("InvalidRequest", 400, StorageError, "InvalidRequest"),
    ],
)
def test_answers_of_s3_are_typed(
    code: str, status: int, error: type[Exception], words: str, translated: bool
) -> None:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    raised: Exception = exceptions.ClientError(answer, "GetObject")
    if translated:
        raised = translate_boto_error(raised)
    with pytest.raises(error, match=f"the thing.*{words}") as caught, storage_errors("the thing"):
        raise raised
    assert type(caught.value) is error
