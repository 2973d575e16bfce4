"""What all widgets share: requests with ids, answered with data or with an error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import anywidget

from vfs_ops.errors import VfsError

MESSAGE_BYTES: Final = 8 << 20
"""Most bytes of buffers in one message; some servers close a connection above 10 MB."""

Buffers = Sequence[bytes | memoryview]
Handler = Callable[[dict[str, Any], list[memoryview]], "Answer | None"]


@dataclass(frozen=True)
class Answer:
    """What a request gets back."""

    value: Mapping[str, Any] = field(default_factory=dict)
    """What JSON can hold."""
    buffers: Buffers = ()
    """Binary data, at most `MESSAGE_BYTES`."""


class Widget(anywidget.AnyWidget):
    """A widget whose browser side asks questions; see ``static/channel.js``.

    The browser sends ``{kind: "request", id, name, value}`` and gets ``{kind: "answer", id,
    value}`` or ``{kind: "error", id, message}``. Python may send ``{kind: "event", name, value}``.
    Bulk data travels as binary buffers in both directions. Subclasses answer requests by methods
    that `handlers` names. What a handler raises is shown in the widget; the kernel stays usable.

    Hosts call handlers on a thread of their own while cells run on another. A handler and its
    answer hold ``_lock``; whatever else changes what handlers read, and tells the browser, holds it
    too. So the browser hears of changes in the order in which they were made.
    """

    def __init__(self, **traits: Any) -> None:
        self._lock = threading.RLock()
        super().__init__(**traits)
        self.on_msg(self._receive)

    def handlers(self) -> dict[str, Handler]:
        """Return what answers each kind of request; extend what the base answers."""
        return {"ping": lambda value, buffers: Answer()}

    def notify(self, name: str, value: Mapping[str, Any], buffers: Buffers = ()) -> None:
        """Tell the browser something; safe from any thread."""
        self.send({"kind": "event", "name": name, "value": dict(value)}, list(buffers))

    def answer(self, request: int, answer: Answer) -> None:
        """Answer a request later than its handler returned; safe from any thread."""
        message = {"kind": "answer", "id": request, "value": dict(answer.value)}
        self.send(message, list(answer.buffers))

    def fail(self, request: int, error: BaseException) -> None:
        """Answer a request with an error."""
        self.send({"kind": "error", "id": request, "message": error_text(error)})

    def _receive(self, _: Any, message: Any, buffers: list[memoryview]) -> None:
        if not isinstance(message, dict) or message.get("kind") != "request":
            return
        with self._lock:
            self._respond(message, buffers)

    def _respond(self, message: dict[str, Any], buffers: list[memoryview]) -> None:
        request, name = int(message["id"]), str(message["name"])
        try:
            answer = self.handlers()[name]({**message.get("value", {}), "id": request}, buffers)
        except VfsError as error:
            self.fail(request, error)
        except Exception as error:
            self.fail(request, error)
            raise  # into the kernel's log, with its traceback
        else:
            if answer is not None:
                self.answer(request, answer)


def error_text(error: BaseException) -> str:
    """Return what a person reads of an error: our own messages as they are, others with a name."""
    text = " ".join(str(error).split())
    if isinstance(error, VfsError):
        return text
    name = type(error).__name__
    return f"{name}: {text}" if text else name
