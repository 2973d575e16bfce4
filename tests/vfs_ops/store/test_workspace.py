"""Workspaces: create-only writes, whole or not at all. What all stores do: test_storage_kinds."""

import errno
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs_ops.errors import (
    AccessError,
    InvalidNameError,
    InvalidUrlError,
    NotFoundError,
    StorageError,
    StorageFullError,
)
from vfs_ops.store.workspace import Workspace


@pytest.fixture(params=["file", "memory"])
def space(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    if request.param == "memory":
        return Workspace.in_memory()
    return Workspace.at(str(tmp_path / "a workspace"))


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Switch threads as often as possible, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_one_of_many_writers_wins(space: Workspace) -> None:
    turns = 30
    for turn in range(turns):
        key, results = f"race/{turn}", {}
        barrier = threading.Barrier(16)

        def write(number: int, key: str = key, results: dict = results, at: Any = barrier) -> None:
            at.wait()
            results[number] = space.create(key, bytes([number]) * 10_000)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [number for number, won in results.items() if won]
        assert len(results) == 16
        assert len(winners) == 1
        assert space.read(key) == bytes(winners) * 10_000
    assert len(space.walk()) == turns


@pytest.mark.usefixtures("hasty_threads")
def test_listing_and_deleting_go_along_with_writing(space: Workspace) -> None:
    def work(number: int) -> int:
        for turn in range(20):
            space.create(f"a/{turn}", b"x")
            space.names("a")
            space.walk()
            space.delete(f"a/{(turn + number) % 20}")
        return number

    with ThreadPoolExecutor(6) as executor:
        assert list(executor.map(work, range(6))) == list(range(6))


def test_readers_of_a_replaced_object_see_it_whole(tmp_path: Path) -> None:
    space = Workspace.at(str(tmp_path))
    space.replace("x", bytes(50_000))
    seen: list[tuple[int, int]] = []

    def look() -> None:
        for _ in range(50):
            data = space.read("x")
            seen.append((len(data), len(set(data))))

    thread = threading.Thread(target=look)
    thread.start()
    for number in itertools.cycle(range(50)):
        space.replace("x", bytes([number]) * 50_000)
        if not thread.is_alive():
            break
    assert seen == [(50_000, 1)] * 50


@pytest.mark.parametrize("call", ["fsync", "link"])
@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, StorageFullError), (errno.EDQUOT, StorageFullError), (errno.EIO, StorageError),
     (errno.EROFS, AccessError), (errno.EACCES, AccessError)],
)  # fmt: skip
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, error: type[Exception]
) -> None:
    space = Workspace.at(str(tmp_path))

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(error):
            space.create("a/b", b"data")
        if call == "fsync":
            with pytest.raises(error):
                space.replace("a/b", b"data")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert space.create("a/b", b"data")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_named_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(StorageError, match="no hard links") as caught:
        Workspace.at(str(tmp_path)).create("a", b"data")
    assert type(caught.value) is StorageError
    assert list(tmp_path.iterdir()) == []


def test_a_replacement_that_fails_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = Workspace.at(str(tmp_path))
    space.replace("x", b"old")

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(StorageFullError):
            space.replace("x", b"new")
    assert space.read("x") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Workspace.at(str(tmp_path)).create("a", b"data")
    assert list(tmp_path.iterdir()) == []


def test_half_written_files_are_not_listed(tmp_path: Path) -> None:
    space = Workspace.at(str(tmp_path))
    space.create("a/b", b"1")
    (tmp_path / "a" / ".b.0123456789abcdef").write_bytes(b"of a process that was killed")
    assert space.names("a") == ["b"]


BAD = ["..", "../x", "a/../../x", "/x", "a//b", "a/", "A", "é", ".a", "a\0", "a b", "x" * 10_000]


@pytest.mark.parametrize("key", BAD)
def test_names_that_could_do_harm_are_refused(space: Workspace, key: str) -> None:
    for act in (
        lambda: space.create(key, b""),
        lambda: space.replace(key, b""),
        lambda: space.read(key),
        lambda: space.delete(key),
        lambda: space.names(key),
        lambda: space.exists(key),
        lambda: space.zarr_store(key),
    ):
        with pytest.raises(InvalidNameError):
            act()


@given(st.text(max_size=40))
def test_a_key_is_refused_or_stays_inside(key: str) -> None:
    try:
        full = Workspace("file:///some/root").path_of(key)
    except InvalidNameError:
        return
    assert full == "/some/root" or os.path.normpath(full).startswith("/some/root/")


def test_the_whole_workspace_is_not_deleted_by_mistake(tmp_path: Path) -> None:
    space = Workspace.at(str(tmp_path))
    space.create("a", b"1")
    with pytest.raises(InvalidNameError):
        space.delete("")
    assert space.read("a") == b"1"


def test_https_can_only_be_read() -> None:
    space = Workspace.at("https://example.test/x")
    assert not space.writable
    for act in (
        lambda: space.create("a", b""),
        lambda: space.replace("a", b""),
        lambda: space.delete("a"),
    ):
        with pytest.raises(AccessError, match="read-only"):
            act()


@pytest.mark.parametrize("text", ["http://x/y", "gs://x", "ftp://x", "https://a:b@c/d", "a::b", ""])
def test_workspaces_are_on_few_protocols(text: str) -> None:
    with pytest.raises(InvalidUrlError):
        Workspace.at(text)


def test_workspaces_in_memory_are_apart() -> None:
    one, two = Workspace.in_memory(), Workspace.in_memory()
    one.create("a", b"1")
    with pytest.raises(NotFoundError):
        two.read("a")


def test_a_key_below_an_object_is_an_error(tmp_path: Path) -> None:
    space = Workspace.at(str(tmp_path))
    space.create("a", b"1")
    with pytest.raises(StorageError):
        space.create("a/b", b"2")
    assert space.read("a") == b"1"


def test_a_folder_that_others_clear_away_is_made_again(workspace, monkeypatch):
    """As a prune does with empty ones: of what is made, and of what is still being looked at."""
    workspace.create("kept", b"")
    mkdir, cleared = os.mkdir, []

    def at_once(path, *mode):
        mkdir(path, *mode)
        if len(cleared) < 40:
            os.rmdir(path)
            cleared.append(path)
            if len(cleared) % 3 == 0:
                raise FileExistsError(17, "File exists", str(path))

    monkeypatch.setattr(os, "mkdir", at_once)
    workspace.replace("claims/a/b.json", b"claim")
    assert workspace.read("claims/a/b.json") == b"claim"
    assert len(cleared) == 40
