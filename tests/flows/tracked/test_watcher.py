"""What is shown on the server never ends the work."""

import logging

import httpx
import pytest

from flows.watching import Code, Watcher
from vfs_ops.errors import UnavailableError


class Noting(Watcher):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def noting():
    return Noting()


@pytest.fixture
def watcher(noting, monkeypatch):
    """Return a tracked watcher outside of a run."""
    from flows.tracked import watcher

    monkeypatch.setattr(watcher, "get_run_logger", lambda: logging.getLogger("run"))
    return watcher.TrackedWatcher(noting)


def refused(status):
    request = httpx.Request("POST", "http://prefect/api/artifacts/")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status))


@pytest.mark.parametrize(
    "error", [refused(401), refused(404), refused(429), refused(502), httpx.ConnectError("no")]
)
def test_a_server_that_refuses_is_told_once_and_left_alone(watcher, noting, monkeypatch, error):
    asked = []

    def refuse(*_, **__):
        asked.append(1)
        raise error

    monkeypatch.setattr("flows.tracked.watcher.create_markdown_artifact", refuse)
    monkeypatch.setattr("flows.tracked.watcher.SECONDS_WITHOUT_SERVER", 1000.0)
    for _ in range(3):
        watcher.code(Code("open", "How to open it", "import catalog"))
    assert len(asked) == 1
    monkeypatch.setattr("flows.tracked.watcher.SECONDS_WITHOUT_SERVER", 0.0)
    watcher._silent_until = 0.0
    watcher.code(Code("open", "How to open it", "import catalog"))
    assert len(asked) == 2
    [note] = noting.notes
    assert note.endswith("the work goes on")


@pytest.mark.parametrize(
    "error", [UnavailableError("no answer"), OSError(28, "full"), ValueError()]
)
def test_a_picture_that_cannot_be_drawn_is_a_remark(watcher, noting, error):
    def draw():
        raise error

    watcher.picture(draw)
    [note] = noting.notes
    assert note.startswith("a picture was left out")
