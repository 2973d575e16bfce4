"""What file systems raise, as typed errors."""

import errno
import pickle
from typing import Any

import aiohttp
import pytest
from botocore import exceptions
from yarl import URL

from vfs_ops.errors import (
    AccessError,
    InvalidUrlError,
    NotFoundError,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from vfs_ops.failures import storage_errors


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
        (answered(403), AccessError),
        (answered(400), UnavailableError),
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


def test_errors_of_s3_are_typed() -> None:
    for raised, error in (
        (exceptions.NoCredentialsError(), AccessError),
        (exceptions.PartialCredentialsError(provider="env", cred_var="x"), AccessError),
        (exceptions.EndpointConnectionError(endpoint_url="http://x"), UnavailableError),
        (exceptions.ReadTimeoutError(endpoint_url="http://x"), UnavailableError),
        (exceptions.ClientError({"Error": {"Code": "Odd"}}, "GetObject"), UnavailableError),
    ):
        with pytest.raises(error, match="the thing") as caught, storage_errors("the thing"):
            raise raised
        assert type(caught.value) is error
