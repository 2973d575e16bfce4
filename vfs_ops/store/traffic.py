"""How many requests are sent, and how many bytes read, by some piece of work."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Traffic:
    """What was asked of storages within a `counting` block, by all of its threads."""

    requests: int = 0
    """Reads, writes, listings; one that was repeated counts as often as it was sent."""
    bytes_read: int = 0
    """Bytes that were answered to reads."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, requests: int, bytes_read: int) -> None:
        """Count some more."""
        with self._lock:
            self.requests += requests
            self.bytes_read += bytes_read


_COUNTED: ContextVar[tuple[Traffic, ...]] = ContextVar("counted", default=())


@contextlib.contextmanager
def counting() -> Iterator[Traffic]:
    """Count what is asked of storages inside the ``with`` block.

    The count follows the block's context: into `concurrent_reads`, and into any other thread that
    runs in a copy of it (``contextvars.copy_context().run``).

    Examples
    --------
    >>> from vfs_ops import Workspace
    >>> workspace = Workspace.in_memory()
    >>> with counting() as traffic:
    ...     _ = workspace.create("a", b"123"), workspace.read("a")
    >>> traffic.requests, traffic.bytes_read
    (2, 3)
    """
    traffic = Traffic()
    token = _COUNTED.set((*_COUNTED.get(), traffic))
    try:
        yield traffic
    finally:
        _COUNTED.reset(token)


def count(requests: int = 0, bytes_read: int = 0) -> None:
    """Count for every block that is open in this context."""
    for traffic in _COUNTED.get():
        traffic.add(requests, bytes_read)
