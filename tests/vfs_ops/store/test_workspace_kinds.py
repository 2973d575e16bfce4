"""One suite for every kind of store that can be written."""

import threading

import pytest

from vfs_ops.errors import DamagedError, NotFoundError
from vfs_ops.store.traffic import counting
from vfs_ops.store.workspace import Workspace


def test_what_is_created_stays(any_workspace: Workspace) -> None:
    assert any_workspace.create("a/b/c.json", b"one")
    assert not any_workspace.create("a/b/c.json", b"two")
    assert any_workspace.read("a/b/c.json") == b"one"
    assert any_workspace.create("a/b/d.json", b"")
    assert any_workspace.names("a/b") == ["c.json", "d.json"]
    assert any_workspace.names("a") == ["b"]
    assert any_workspace.names("nope") == []
    assert [stat.path for stat in any_workspace.walk()] == ["a/b/c.json", "a/b/d.json"]
    assert [stat.path for stat in any_workspace.walk("a/b")] == ["a/b/c.json", "a/b/d.json"]
    assert any_workspace.walk("nope") == []


def test_a_derived_object_is_replaced(any_workspace: Workspace) -> None:
    for data in (b"one", b"", b"three"):
        any_workspace.replace("catalog/index.json", data)
        assert any_workspace.read("catalog/index.json") == data
    assert not any_workspace.create("catalog/index.json", b"four")


def test_deleting(any_workspace: Workspace) -> None:
    any_workspace.create("a/b/c", b"1")
    any_workspace.create("a/d", b"2")
    any_workspace.delete("a/b/c")
    any_workspace.delete("a/b/c")
    any_workspace.delete("nope/nope")
    assert [stat.path for stat in any_workspace.walk()] == ["a/d"]
    any_workspace.delete("a")
    assert any_workspace.walk() == []
    assert any_workspace.create("a/d", b"3")


def test_reading_ranges(any_workspace: Workspace) -> None:
    any_workspace.create("x", b"0123456789")
    assert any_workspace.read("x", 2, 5) == b"234"
    assert any_workspace.read("x", 5) == b"56789"
    assert any_workspace.read("x", -3) == b"789"
    assert any_workspace.stat("x").size == 10
    assert any_workspace.read_optional("y") is None
    assert any_workspace.exists("x")
    assert not any_workspace.exists("y")


def test_what_nobody_vouches_for_is_read_up_to_a_bound(any_workspace: Workspace) -> None:
    any_workspace.create("x", b"0123456789")
    any_workspace.create("empty", b"")
    with counting() as traffic:
        assert any_workspace.read("x", most=10) == b"0123456789"
        assert any_workspace.read("empty", most=10) == b""
        with pytest.raises(DamagedError, match="more than 4 bytes"):
            any_workspace.read("x", most=4)
    assert (traffic.requests, traffic.bytes_read) == (3, 15)
    with pytest.raises(NotFoundError):
        any_workspace.read("y", most=4)


def test_one_of_many_writers_wins(any_workspace: Workspace) -> None:
    results: dict[int, bool] = {}
    barrier = threading.Barrier(16)

    def write(number: int) -> None:
        barrier.wait()
        results[number] = any_workspace.create("race", bytes([number]) * 10_000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for number, won in results.items() if won]
    assert len(results) == 16
    assert len(winners) == 1
    assert any_workspace.read("race") == bytes(winners) * 10_000
