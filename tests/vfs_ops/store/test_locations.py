"""Folders and single files: listing and reading."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs_ops.errors import (
    AccessError,
    InvalidNameError,
    InvalidUrlError,
    MissingDependencyError,
    NotFoundError,
    StorageError,
)
from vfs_ops.store import filesystems
from vfs_ops.store.file_stats import FileStat
from vfs_ops.store.locations import Folder, read_url, stat_url
from vfs_ops.store.urls import REMOTE_PROTOCOLS


def test_remote_urls_alone_are_read_as_such(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"secret")
    assert "file" not in REMOTE_PROTOCOLS
    assert "memory" not in REMOTE_PROTOCOLS
    for url in (f"file://{tmp_path}/x", f"{tmp_path}/x", "memory://x", "local://x"):
        with pytest.raises(InvalidUrlError):
            read_url(url, 9)
        with pytest.raises(InvalidUrlError):
            stat_url(url)


class Remote:
    """A file system that knows one file."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.facts = info

    def _strip_protocol(self, url: str) -> str:
        return url

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        return b"whole file"

    def info(self, path: str) -> dict[str, Any]:
        if path.endswith("gone"):
            raise FileNotFoundError(path)
        return self.facts


@pytest.mark.parametrize(
    ("facts", "stat"),
    [
        ({"size": 5, "ETag": '"abc"'}, (5, "etag:abc")),
        ({"size": 5, "ETag": "abc", "LastModified": "now"}, (5, "etag:abc")),
        ({"size": 5, "Last-Modified": "Mon"}, (5, "time:5:Mon")),
        ({"size": 5}, (5, "")),
        ({"size": None}, (0, "")),
    ],
)
def test_change_tokens(
    monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], stat: tuple[int, str]
) -> None:
    monkeypatch.setattr(filesystems, "filesystem", lambda protocol: Remote(facts))
    url = "s3://host/x"
    assert stat_url(url) == FileStat(url, *stat)
    assert read_url(url, 10) == b"whole file"
    with pytest.raises(NotFoundError):
        stat_url("s3://host/gone")


def test_a_storage_that_ignores_ranges_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "filesystem", lambda protocol: Remote({}))
    folder = Folder.at("s3://host")
    with pytest.raises(StorageError, match="ignores ranges"):
        folder.read("x", 0, 4)
    assert folder.read("x") == b"whole file"


@pytest.mark.parametrize(
    "path",
    ["..", "../x", "a/../b", "/x", "a//b", "a/", "./a", "a/.", "a\0b", "a/../../../etc/passwd"],
)
@pytest.mark.parametrize("url", ["/tmp", "memory://a", "https://host/a", "/"])
def test_paths_cannot_leave_a_folder(url: str, path: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        Folder.at(url).path_of(path)
    assert len(str(caught.value)) < 400


@given(st.text(max_size=30))
def test_a_path_is_refused_or_stays_inside(path: str) -> None:
    try:
        full = Folder("file:///some/root").path_of(path)
    except InvalidNameError:
        return
    assert full == "/some/root" or os.path.normpath(full).startswith("/some/root/")
    assert os.path.normpath(full) == full


def test_the_root_of_the_file_system() -> None:
    assert Folder.at("/").path_of("etc") == "/etc"
    assert Folder.at("memory://").path_of("a/b") == "/a/b"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b é.txt").write_bytes(b"0123456789")
    (tmp_path / "a").write_bytes(b"")
    return Folder.at(str(tmp_path))


def test_reading(folder: Folder) -> None:
    path = "sub/b é.txt"
    assert folder.read(path) == b"0123456789"
    assert folder.read(path, 2, 5) == b"234"
    assert folder.read(path, 8, 50) == b"89"
    assert folder.read(path, -3) == b"789"
    assert folder.read("a") == b""
    assert folder.read_optional(path) == b"0123456789"
    assert folder.read_optional("nope") is None
    assert folder.exists("sub")
    assert not folder.exists("nope")
    for read in (folder.read, folder.stat):
        with pytest.raises(NotFoundError):
            read("nope")
    with pytest.raises(StorageError):
        folder.read("sub")


def test_memory_folders_read_alike() -> None:
    folder = Folder.at("memory://test-locations")
    folder.filesystem.pipe_file(folder.path_of("x/y"), b"0123456789")
    assert folder.read("x/y", 2, 5) == b"234"
    assert folder.read("x/y", -3) == b"789"
    assert [stat.path for stat in folder.walk()] == ["x/y"]
    assert folder.stat("x/y").size == 10
    assert folder.read_optional("x/z") is None


def test_walking(folder: Folder) -> None:
    assert [(stat.path, stat.size) for stat in folder.walk()] == [("a", 0), ("sub/b é.txt", 10)]
    assert [stat.path for stat in folder.walk("sub")] == ["sub/b é.txt"]
    assert folder.walk("nope") == folder.walk("a") == []
    for stat in folder.walk():
        assert folder.stat(stat.path) == stat


def test_tokens_follow_the_file_that_a_link_leads_to(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    before = {stat.path: stat for stat in folder.walk()}
    os.utime(tmp_path / "a", ns=(7, 7))
    after = {stat.path: stat for stat in folder.walk()}
    assert before["link"] != after["link"]
    assert folder.stat("link") == after["link"]


def test_a_folder_that_cannot_be_listed_is_not_left_out(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(AccessError):
        folder.walk()


def test_a_protocol_whose_package_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str, **options: Any) -> Any:
        raise ImportError("no module")

    monkeypatch.setattr(filesystems.fsspec, "filesystem", missing)
    filesystems.filesystem.cache_clear()
    with pytest.raises(MissingDependencyError, match="pip install gcsfs"):
        Folder.at("gs://bucket").read("x")
    filesystems.filesystem.cache_clear()
    assert set(filesystems.PACKAGES) == set(REMOTE_PROTOCOLS)


def test_a_long_object_is_not_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Long(Remote):
        def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
            asked.append((start, end))
            return b"x" * (end or 3)

    for size, span in ((3, (None, None)), (4, (None, None)), (5, (0, 4)), (2**40, (0, 4))):
        monkeypatch.setattr(filesystems, "filesystem", lambda _, size=size: Long({"size": size}))
        assert len(read_url("s3://bucket/x", 4)) in (3, 4)
        assert asked.pop() == span
