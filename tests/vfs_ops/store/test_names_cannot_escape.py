"""No name leaves a workspace, on any kind of store; no URL reaches what it should not."""

import contextlib
from typing import Any

import pytest

from vfs_ops.errors import InvalidNameError, InvalidUrlError, StorageError
from vfs_ops.store.locations import Folder, read_url, stat_url
from vfs_ops.store.workspace import Workspace

NAMES = [
    "..",
    "../x",
    "a/../../x",
    "a/..",
    "./a",
    "a/./b",
    "/x",
    "//x",
    "a//b",
    "a/",
    "a\\..\\b",
    "..\\x",
    "%2e%2e/x",
    "..%2fx",
    "a%00b",
    "a\0b",
    "a\nb",
    "\u2024\u2024/x",  # one dot leaders
    "\uff0e\uff0e/x",  # full-width dots
    "\u2025/x",  # two dots in one letter
    "a\u2215..\u2215x",  # a division slash
    "a\uff0fx",
    "a\u202ex",  # right to left
    "a\u200bx",  # no width
    "e\u0301",
    "\u00e9",
    "\u0131d",
    "\ud800",
    "~",
    "~root/x",
    "$HOME/x",
    "a:b",
    "c:/x",
    "a?versionId=1",
    "a#b",
    "a*",
    "[a]",
    "A",
    ".a",
    "-a",
    "a b",
    "file:///etc/passwd",
    "s3://other/x",
    "x" * 129,
    "x" * 10_000,
    "../" * 3_000 + "x",
    "\u00e9" * 10_000,
]


def acts(space: Workspace, name: str) -> list[Any]:
    return [
        lambda: space.create(name, b"1"),
        lambda: space.replace(name, b"1"),
        lambda: space.delete(name),
        lambda: space.delete_objects([name]),
        lambda: space.read(name),
        lambda: space.read(name, 0, 4),
        lambda: space.read_optional(name),
        lambda: space.exists(name),
        lambda: space.stat(name),
        lambda: space.names(name),
        lambda: space.walk(name),
        lambda: space.zarr_store(name),
    ]


def test_names_that_could_leave_a_workspace_are_refused(any_workspace: Workspace) -> None:
    inner = Workspace(f"{any_workspace.url}/inner")
    any_workspace.create("x", b"outside")
    inner.create("x", b"inside")
    before = {stat.path: any_workspace.read(stat.path) for stat in any_workspace.walk()}
    for name in NAMES:
        for act in acts(inner, name):
            with pytest.raises(InvalidNameError) as caught:
                act()
            assert len(str(caught.value)) < 1000
    assert {stat.path: any_workspace.read(stat.path) for stat in any_workspace.walk()} == before


def test_a_key_of_ten_thousand_characters_is_an_error_or_works(any_workspace: Workspace) -> None:
    key = "/".join(["long"] * 2000)
    with contextlib.suppress(StorageError):
        any_workspace.create(key, b"1")
        assert any_workspace.read(key) == b"1"
        assert any_workspace.protocol == "memory"
    assert len(any_workspace.walk()) == (any_workspace.protocol == "memory")


def test_the_root_is_not_deleted(any_workspace: Workspace) -> None:
    any_workspace.create("x", b"1")
    for name in ("", "/"):
        with pytest.raises(InvalidNameError):
            any_workspace.delete(name)
    assert any_workspace.read("x") == b"1"


@pytest.mark.parametrize(
    "url",
    [
        "simplecache::s3://bucket/x",
        "zip://x::https://host/x.zip",
        "s3://bucket/x::file:///etc",
        "filecache::file:///etc",
        "github://a:b@/x",
        "local:///etc",
        "ftp://host/x",
        "sftp://host/x",
        "http://host/x",
        "reference://x",
        "dask://x",
        "jupyter://x",
        "javascript:alert(1)//://x",
        "S3://bucket/x\n",
        "s3://user:secret@bucket/x",
        "https://host/x?X-Amz-Signature=1",
        "https://[::1/x",
        "s3://",
        "https:///",
    ],
)
def test_urls_that_no_workspace_has_are_refused(url: str) -> None:
    with pytest.raises(InvalidUrlError):
        Workspace.at(url)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "FILE:///etc/passwd", "local:///etc/passwd", "/etc/passwd", "memory://x",
     "simplecache::https://host/x", "https://host/x::file:///etc/passwd", "~/.ssh/id_rsa"],
)  # fmt: skip
def test_stored_urls_reach_nothing_local(url: str) -> None:
    for act in (lambda: read_url(url, 100), lambda: stat_url(url)):
        with pytest.raises(InvalidUrlError):
            act()


def test_stored_paths_stay_in_their_folder(any_workspace: Workspace) -> None:
    folder = Folder(any_workspace.url)
    for path in ("..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/.", "a\0b", "./x"):
        for act in (lambda p=path: folder.read(p), lambda p=path: folder.stat(p)):
            with pytest.raises(InvalidNameError):
                act()
