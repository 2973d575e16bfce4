"""Requests and answers between the two sides, without a browser."""

import pytest

from vfs_ops.errors import RegionError
from vfs_ops.widgets.base import Answer, Widget


class Echo(Widget):
    _esm = "export default {}"

    def handlers(self):
        return super().handlers() | {
            "echo": self._echo,
            "refuse": self._refuse,
            "break": self._break,
        }

    def _echo(self, value, buffers):
        return Answer({"text": value["text"]}, [bytes(buffer) for buffer in buffers])

    def _refuse(self, value, buffers):
        raise RegionError("the mask is empty; highlight a part")

    def _break(self, value, buffers):
        raise ZeroDivisionError("by zero")


@pytest.fixture
def echo(monkeypatch):
    widget = Echo()
    widget.sent = []
    monkeypatch.setattr(
        widget, "send", lambda message, buffers=None: widget.sent.append((message, buffers))
    )
    return widget


def ask(widget, name, value=None, buffers=()):
    widget._receive(
        widget, {"kind": "request", "id": 7, "name": name, "value": value or {}}, list(buffers)
    )


def test_an_answer_carries_the_id_and_buffers(echo):
    ask(echo, "echo", {"text": "<b>"}, [memoryview(b"\x00\xff")])
    assert echo.sent == [({"kind": "answer", "id": 7, "value": {"text": "<b>"}}, [b"\x00\xff"])]


def test_errors_go_to_the_browser_and_bugs_to_the_log_too(echo):
    ask(echo, "refuse")
    assert echo.sent.pop()[0] == {
        "kind": "error",
        "id": 7,
        "message": "the mask is empty; highlight a part",
    }
    with pytest.raises(ZeroDivisionError):
        ask(echo, "break")
    assert echo.sent.pop()[0]["message"] == "ZeroDivisionError: by zero"
    with pytest.raises(KeyError):
        ask(echo, "no such request")


def test_other_messages_are_left_alone(echo):
    echo._receive(echo, {"kind": "something else"}, [])
    echo._receive(echo, "text", [])
    assert echo.sent == []
