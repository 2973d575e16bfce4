"""Workspaces that anybody may read and nobody may list, over s3 and over https."""

from typing import Any

import fsspec
import pytest
from s3_server import environment, forget_file_systems

from vfs_ops.errors import (
    AccessError,
    ForbiddenError,
    NotFoundError,
    StorageError,
    UnavailableError,
)
from vfs_ops.store.locations import Folder
from vfs_ops.store.workspace import Workspace

DATA = bytes(range(256)) * 1000


@pytest.fixture
def written(public_workspace: Workspace) -> Workspace:
    public_workspace.create("a/b", DATA)
    public_workspace.create("empty", b"")
    return public_workspace


@pytest.fixture
def anonymous(s3_environment: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Read without credentials, as fsspec's configuration asks for it."""
    if s3_environment.kind != "ceph":
        pytest.skip("moto takes anybody")
    names = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED")
    kept = {name: s3_environment.environment()[name] for name in names}
    with environment(kept):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        yield lambda: monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True})


def check_reading(space: Workspace | Folder) -> None:
    assert space.read("a/b") == DATA
    assert space.read("a/b", 100, 300) == DATA[100:300]
    assert space.read("a/b", -300) == DATA[-300:]
    assert space.read("empty") == b""
    assert space.stat("a/b").size == len(DATA)
    assert space.read_optional("nothing/here") is None
    for refused in (lambda: space.read("nothing/here"), lambda: space.stat("nothing/here")):
        with pytest.raises((ForbiddenError, NotFoundError)):
            refused()


def test_a_public_bucket_is_read_anonymously(written: Workspace, anonymous: Any) -> None:
    anonymous()
    check_reading(written)
    for listing in (lambda: written.names("a"), lambda: written.walk()):
        with pytest.raises(ForbiddenError):
            listing()
    with pytest.raises(AccessError):
        written.create("mine", b"1")
    with pytest.raises(AccessError):
        written.delete("a/b")


def test_who_has_no_credentials_is_told_how_to_read(written: Workspace, anonymous: Any) -> None:
    with pytest.raises(AccessError, match=r"credentials.*FSSPEC_S3.*anon"):
        written.read("a/b")


def test_a_private_bucket_is_refused(s3_workspace: Workspace, anonymous: Any) -> None:
    anonymous()
    with pytest.raises(ForbiddenError):
        s3_workspace.read("a/b")


def test_a_public_bucket_is_read_over_https(written: Workspace, https_workspace: Workspace) -> None:
    check_reading(https_workspace)
    for listing in (lambda: https_workspace.names("a"), lambda: https_workspace.walk()):
        with pytest.raises(ForbiddenError, match="cannot be listed"):
            listing()
    for writing in (
        lambda: https_workspace.create("x", b""),
        lambda: https_workspace.replace("x", b""),
        lambda: https_workspace.delete("x"),
    ):
        with pytest.raises(AccessError, match="read-only"):
            writing()


@pytest.mark.parametrize("how", ["500", "503", "reset", "cut"])
def test_https_is_asked_again(
    written: Workspace, https_workspace: Workspace, https_proxy: Any, how: str
) -> None:
    https_proxy.fail(how, times=2)
    assert https_workspace.read("a/b") == DATA
    assert https_proxy.counts() == {"GET": 3}
    https_proxy.forget()
    https_proxy.fail("503", times=float("inf"))
    with pytest.raises(UnavailableError, match="asked 6 times"):
        https_workspace.read("a/b")
    assert https_proxy.counts() == {"GET": 6}


def test_a_server_that_ignores_ranges_is_an_error(
    written: Workspace, https_workspace: Workspace, https_proxy: Any
) -> None:
    https_proxy.fail("ignore-range", times=float("inf"))
    with pytest.raises(StorageError, match="ignores ranges"):
        https_workspace.read("a/b", 100, 300)
    assert https_workspace.read("a/b") == DATA


def test_who_requests_pays_where_it_is_configured(
    s3_workspace: Workspace, s3_proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_workspace.create("x", b"1")
    assert "x-amz-request-payer" not in s3_proxy.requests[-1].fields
    monkeypatch.setitem(fsspec.config.conf, "s3", {"requester_pays": True})
    forget_file_systems()
    assert s3_workspace.read("x") == b"1"
    assert s3_workspace.names("") == ["x"]
    for request in s3_proxy.requests[1:]:
        assert request.fields["x-amz-request-payer"] == "requester"
