"""Workspaces on a real S3 server that fails on purpose: how often is asked, and what is told."""

import os
from typing import Any

import pytest
from loop_clock import LoopClock
from ports import held_port
from s3_server import environment, running_moto

from vfs_ops.errors import (
    AccessError,
    ForbiddenError,
    NotFoundError,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from vfs_ops.store import attempts, filesystems
from vfs_ops.store.traffic import counting
from vfs_ops.store.workspace import Workspace

DATA = os.urandom(100_000)


@pytest.fixture
def no_waiting(s3_proxy: Any) -> None:
    """Let what is not answered reach its time limit at once, and nothing else."""
    clock = LoopClock.of_fsspec()
    s3_proxy.on_hang = lambda: clock.move(100)


def test_each_act_is_one_request(s3_workspace: Workspace, s3_proxy: Any) -> None:
    assert s3_workspace.create("a/b", DATA)
    assert s3_proxy.counts() == {"PUT": 1}
    assert not s3_workspace.create("a/b", b"other")
    assert s3_proxy.counts() == {"PUT": 2, "HEAD": 1}
    s3_proxy.forget()
    assert s3_workspace.read("a/b") == DATA
    assert s3_workspace.read("a/b", 10, 20) == DATA[10:20]
    assert s3_workspace.read("a/b", -7) == DATA[-7:]
    assert s3_workspace.read_optional("a/c") is None
    assert s3_proxy.counts() == {"GET": 4}
    s3_proxy.forget()
    assert s3_workspace.names("a") == ["b"]
    assert [stat.path for stat in s3_workspace.walk("a")] == ["a/b"]
    assert s3_proxy.counts() == {"GET": 2}
    s3_proxy.forget()
    s3_workspace.delete("a/b")
    assert s3_proxy.counts() == {"GET": 1, "HEAD": 1, "POST": 1}


def test_large_objects_are_one_create_only_request(s3_workspace: Workspace, s3_proxy: Any) -> None:
    data = bytes(120 * 2**20)  # s3fs would write this in parts
    assert s3_workspace.create("big", data)
    assert not s3_workspace.create("big", data[:-1])
    assert s3_proxy.counts() == {"PUT": 2, "HEAD": 1}
    assert s3_workspace.stat("big").size == len(data)
    assert s3_workspace.read("big", len(data) - 3) == data[-3:]


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("how", ["500", "503", "hang", "reset", "lost", "cut"])
def test_what_passes_is_asked_again(s3_workspace: Workspace, s3_proxy: Any, how: str) -> None:
    assert s3_workspace.create("x", DATA)
    s3_proxy.forget()
    s3_proxy.fail(how, method="GET", times=3)
    assert s3_workspace.read("x") == DATA
    assert s3_proxy.counts() == {"GET": 4}
    s3_proxy.forget()
    s3_proxy.fail(how, method="GET", times=2)
    assert s3_workspace.read("x", 5, 50_000) == DATA[5:50_000]
    assert s3_proxy.counts() == {"GET": 3}


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("how", ["500", "503", "hang", "reset"])
def test_writes_are_asked_again(s3_workspace: Workspace, s3_proxy: Any, how: str) -> None:
    s3_proxy.fail(how, method="PUT", times=2)
    assert s3_workspace.create("x", DATA)
    assert s3_proxy.counts() == {"PUT": 3}
    s3_proxy.fail(how, method="PUT", times=2)
    s3_workspace.replace("x", b"new")
    assert s3_proxy.counts() == {"PUT": 6}
    assert s3_workspace.read("x") == b"new"


def test_attempts_are_bounded(s3_workspace: Workspace, s3_proxy: Any) -> None:
    s3_proxy.fail("503", times=float("inf"))
    for number, act in enumerate(
        (
            lambda: s3_workspace.read("x"),
            lambda: s3_workspace.create("x", b"1"),
            lambda: s3_workspace.replace("x", b"1"),
            lambda: s3_workspace.names("x"),
            lambda: s3_workspace.walk(),
            lambda: s3_workspace.stat("x"),
            lambda: s3_workspace.delete("x"),
        )
    ):
        with counting() as traffic, pytest.raises(UnavailableError, match="asked 6 times"):
            act()
        assert traffic.requests == attempts.ATTEMPTS
        assert len(s3_proxy.requests) == (number + 1) * attempts.ATTEMPTS


@pytest.mark.parametrize("times", [1, 4])
def test_a_write_whose_answer_was_lost_is_ours(
    s3_workspace: Workspace, s3_proxy: Any, times: int
) -> None:
    s3_proxy.fail("lost", method="PUT", times=times)
    assert s3_workspace.create("x", DATA)
    assert s3_proxy.counts() == {"PUT": times + 1, "HEAD": 1}
    assert s3_workspace.read("x") == DATA


def test_a_write_that_another_made_meanwhile_is_not_ours(
    s3_workspace: Workspace, s3_proxy: Any, s3_environment: Any
) -> None:
    path = s3_workspace.path_of("x")
    s3_environment.client().pipe_file(path, DATA)  # the same bytes
    s3_proxy.fail("lost", method="PUT")
    assert not s3_workspace.create("x", DATA)
    assert s3_proxy.counts() == {"PUT": 2, "HEAD": 1}


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("400", AccessError, "expired.*renew them"),
        ("403", ForbiddenError, "access refused"),
        ("quota", StorageFullError, "no space left.*free some"),
    ],
)
def test_what_does_not_pass_is_asked_once(
    s3_workspace: Workspace, s3_proxy: Any, how: str, error: type[Exception], words: str
) -> None:
    s3_proxy.fail(how, times=float("inf"))
    for method, act in (
        ("GET", lambda: s3_workspace.read("x")),
        ("PUT", lambda: s3_workspace.create("x", DATA)),
        ("GET", lambda: s3_workspace.names("x")),
    ):
        s3_proxy.forget()
        with pytest.raises(error, match=words) as caught:
            act()
        assert type(caught.value) is error
        assert s3_proxy.counts() == {method: 1}


@pytest.mark.usefixtures("no_waiting")
def test_a_write_that_stalls_is_given_up(
    s3_workspace: Workspace, s3_proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystems, "READ_SECONDS", 1000)  # as while it trickles
    filesystems.filesystem.cache_clear()
    s3_proxy.fail("hang", method="PUT", times=2)
    assert s3_workspace.create("x", DATA)
    assert s3_proxy.counts() == {"PUT": 3}


@pytest.fixture
def no_ceph(s3_environment: Any) -> None:
    if s3_environment.kind != "ceph":
        pytest.skip("moto takes any secret")


@pytest.mark.usefixtures("no_ceph")
def test_a_wrong_secret_is_told(s3_workspace: Workspace, s3_environment: Any) -> None:
    s3_workspace.create("x", b"1")
    wrong = {**s3_environment.environment(), "AWS_SECRET_ACCESS_KEY": "wrong"}
    with environment(wrong):
        for act in (
            lambda: s3_workspace.read("x"),
            lambda: s3_workspace.read_optional("x"),
            lambda: s3_workspace.create("y", b"1"),
            lambda: s3_workspace.names(""),
        ):
            with pytest.raises(AccessError, match="check credentials") as caught:
                act()
            assert type(caught.value) is AccessError
            assert "wrong" not in str(caught.value)


@pytest.mark.usefixtures("no_ceph")
def test_a_bucket_of_another_is_refused(s3_workspace: Workspace, s3_environment: Any) -> None:
    s3_workspace.create("x", b"1")
    with environment(s3_environment.environment(user="other")):
        with pytest.raises(ForbiddenError):
            s3_workspace.read("x")
        with pytest.raises(ForbiddenError):
            s3_workspace.create("y", b"1")
        assert s3_workspace.read_optional("x") is None


def test_a_bucket_that_is_not_there(s3_environment: Any) -> None:
    space = Workspace.at("s3://nobody-made-this-bucket/x")
    assert space.names("") == []
    assert space.walk() == []
    assert space.read_optional("x") is None
    with pytest.raises(NotFoundError, match="bucket"):
        space.create("x", b"1")
    bad = Workspace.at("s3://Not_A..Bucket/x")
    with pytest.raises((NotFoundError, StorageError)):
        bad.create("x", b"1")


def test_a_server_that_is_not_there(s3_environment: Any) -> None:
    with (
        held_port() as port,
        environment(s3_environment.environment(endpoint=f"http://127.0.0.1:{port}")),
        counting() as traffic,
        pytest.raises(UnavailableError, match="asked 6 times"),
    ):
        Workspace.at("s3://bucket/x").read("x")
    assert traffic.requests == attempts.ATTEMPTS


def test_create_only_writes_on_moto() -> None:
    with running_moto() as server, environment(server.environment()):
        space = Workspace.at(f"s3://{server.new_bucket()}/x")
        assert space.create("a", b"1")
        assert not space.create("a", b"2")
        assert space.read("a") == b"1"
        assert space.names("") == ["a"]
        space.delete("a")
        assert space.walk() == []
