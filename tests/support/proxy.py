"""An HTTP proxy before one server: counts requests, fails some on purpose, is slow on purpose.

In a test: ``with running_proxy(server.endpoint) as proxy: proxy.fail("503", path="/x", times=2)``.
For a benchmark, apart from the process that is measured:
``python tests/support/proxy.py http://127.0.0.1:7480 --gbit 1 --latency 20`` prints its URL, and
what was asked of it when its standard input ends.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import re
import ssl
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

BLOCK = 256 * 1024
AHEAD = 0.002
"""Seconds by which a link may run ahead before it sleeps: shorter sleeps are not exact."""

_ERROR = (
    """<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>{}</Message></Error>"""
)
ANSWERS = {
    "400": (400, "ExpiredToken", "The provided token has expired."),
    "403": (403, "AccessDenied", "Access Denied."),
    "404": (404, "NoSuchKey", "No such key."),
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "quota": (403, "QuotaExceeded", "The quota of the user or bucket is exceeded."),
}
"""Failures that are an answer. The others are "hang" (never answers), "reset" (closes before it
answers), "cut" (closes in the middle of the answer) and "lost" (passes the request on, and closes
before it answers: the outcome is unknown to whoever asked)."""
FAILURES = (*ANSWERS, "hang", "reset", "cut", "lost", "ignore-range")


@dataclass(frozen=True)
class Request:
    """One request as it came: `target` is path and query, `failed` how it was failed."""

    method: str
    target: str
    failed: str | None
    fields: dict[str, str]
    """Headers, their names in lower case."""


@dataclass
class _Rule:
    how: str
    method: str | None
    path: re.Pattern[str]
    after: int
    times: float
    seen: int = 0

    def takes(self, method, target):
        if (self.method and method != self.method) or not self.path.search(target):
            return False
        self.seen += 1
        return self.after < self.seen <= self.after + self.times


class _Link:
    """One direction of a line that all connections share."""

    def __init__(self, bytes_per_second):
        self.bytes_per_second, self.free_at = bytes_per_second, 0.0

    async def carry(self, count):
        if self.bytes_per_second:
            now = time.monotonic()
            self.free_at = max(self.free_at, now) + count / self.bytes_per_second
            if self.free_at - now > AHEAD:
                await asyncio.sleep(self.free_at - now)


@dataclass
class Proxy:
    """A running proxy; all of it may be called from any thread."""

    upstream: str
    latency: float = 0.0
    """Seconds from a request to its answer, beside what the server takes."""
    gbit: float | None = None
    tls: ssl.SSLContext | None = None
    url: str = ""
    received: int = 0
    """Bytes of bodies that were uploaded."""
    sent: int = 0
    """Bytes of bodies that were answered."""
    on_hang: Callable[[], None] = lambda: None
    """Called when a request has come whole that will not be answered."""
    _requests: list[Request] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)
    _tasks: set = field(default_factory=set)

    def __post_init__(self):
        speed = self.gbit * 1e9 / 8 if self.gbit else None
        self._up, self._down = _Link(speed), _Link(speed)

    def fail(self, how, *, method=None, path="", after=0, times=1):
        """Fail `times` requests whose target matches the pattern `path`, after `after` of them."""
        if how not in FAILURES:
            raise ValueError(f"{how!r}; expected one of {FAILURES}")
        self._rules.append(_Rule(how, method, re.compile(path), after, times))

    def heal(self):
        """Fail nothing more."""
        self._rules.clear()

    def forget(self):
        """Start counting anew."""
        self._requests.clear()
        self.received = self.sent = 0

    @property
    def requests(self):
        """Return all requests since the last `forget`."""
        return list(self._requests)

    def count(self, method=None, path=""):
        """Count requests whose target matches the pattern `path`."""
        return sum(
            method in (None, request.method) and bool(re.search(path, request.target))
            for request in self.requests
        )

    def counts(self):
        """Count requests by method."""
        return dict(collections.Counter(request.method for request in self.requests))

    async def serve(self, reader, writer):
        """Answer the requests of one connection."""
        task = asyncio.current_task()
        self._tasks.add(task)
        upstream = _Upstream(self.upstream)
        try:
            while head := await _head(reader):
                if not await self._answer(head, reader, writer, upstream):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            upstream.close()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def _answer(self, head, reader, writer, upstream):
        method, target, _ = head.line.split(" ", 2)
        target = unquote(target)
        how = next((rule.how for rule in self._rules if rule.takes(method, target)), None)
        self._requests.append(Request(method, target, how, dict(head.fields)))
        if head.fields.pop("expect", None):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.latency:
            await asyncio.sleep(self.latency)
        if how in ("hang", "reset", *ANSWERS):
            async for block in _body(reader, head):
                await self._up.carry(len(block))
            if how == "hang":
                self.on_hang()
                await reader.read()  # until who asked gives up
                return False
            if how == "reset":
                writer.transport.abort()
                return False
            writer.write(_failure(how, method))
            await writer.drain()
            return True
        if how == "ignore-range":
            head.fields.pop("range", None)
        await upstream.send(head)
        async for block in _body(reader, head):
            self.received += len(block)
            await self._up.carry(len(block))
            await upstream.write(block)
        answer = await _head(upstream.reader)
        while answer.status == 100:
            answer = await _head(upstream.reader)
        if how == "lost":
            writer.transport.abort()
            return False
        writer.write(answer.raw())
        async for block in _body(upstream.reader, answer, method):
            if how == "cut":
                writer.write(block[: len(block) // 2])
                await writer.drain()
                return False
            self.sent += len(block)
            await self._down.carry(len(block))
            writer.write(block)
            await writer.drain()
        await writer.drain()
        return answer.fields.get("connection", "").lower() != "close"


class _Upstream:
    """A connection to the server, opened when it is needed."""

    def __init__(self, url):
        self.parts, self.writer = urlsplit(url), None

    async def send(self, head):
        if self.writer is None or self.writer.is_closing() or self.reader.at_eof():
            self.reader, self.writer = await asyncio.open_connection(
                self.parts.hostname, self.parts.port, limit=2**20
            )
        self.writer.write(head.raw())

    async def write(self, block):
        self.writer.write(block)
        await self.writer.drain()

    def close(self):
        if self.writer is not None:
            self.writer.transport.abort()


@dataclass
class _Head:
    line: str
    fields: dict[str, str]

    @property
    def status(self):
        return int(self.line.split(" ")[1])

    def raw(self):
        lines = [self.line, *(f"{name}: {value}" for name, value in self.fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _head(reader):
    try:
        text = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *rows = text.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (row.partition(":") for row in rows)
    return _Head(line, {name.strip().lower(): value.strip() for name, _, value in pairs})


async def _body(reader, head, method=None):
    """Yield the raw bytes of a body, framing of chunks included."""
    if method is not None and (method == "HEAD" or head.status in (204, 304)):
        return
    if head.fields.get("transfer-encoding", "").lower() == "chunked":
        while True:
            line = await reader.readuntil(b"\r\n")
            data = await reader.readexactly(int(line.split(b";")[0], 16) + 2)
            yield line + data
            if data == b"\r\n":
                return
    left = int(head.fields.get("content-length", 0))
    while left:
        block = await reader.read(min(left, BLOCK))
        if not block:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(block)
        yield block


def _failure(how, method):
    status, code, message = ANSWERS[how]
    body = _ERROR.format(code, message).encode()
    head = f"HTTP/1.1 {status} Failed\r\nContent-Type: application/xml\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if method == "HEAD" else body)


@contextlib.contextmanager
def running_proxy(upstream, *, latency=0.0, gbit=None, tls=None):
    """Run a proxy in a thread of this process; `latency` in seconds, `gbit` per second."""
    proxy = Proxy(upstream, latency, gbit, tls)
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_run(proxy, ready)), name="proxy")
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join()


async def _run(proxy, ready):
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    server = await asyncio.start_server(
        proxy.serve, "127.0.0.1", 0, ssl=proxy.tls, limit=2**20, backlog=256
    )
    host = "localhost" if proxy.tls else "127.0.0.1"
    port = server.sockets[0].getsockname()[1]
    proxy.url = f"{'https' if proxy.tls else 'http'}://{host}:{port}"
    proxy.stop = lambda: loop.call_soon_threadsafe(end.set)
    ready.set()
    await end.wait()
    server.close()
    tasks = list(proxy._tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(5):  # in which aborted transports close their sockets
        await asyncio.sleep(0)


def main():
    """Run a proxy until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream")
    parser.add_argument("--gbit", type=float, help="of the line, in gigabits a second")
    parser.add_argument("--latency", type=float, default=0.0, help="in milliseconds")
    given = parser.parse_args()
    with running_proxy(given.upstream, latency=given.latency / 1e3, gbit=given.gbit) as proxy:
        sys.stdout.write(f"{proxy.url}\n")
        sys.stdout.flush()
        sys.stdin.read()
        told = {"requests": proxy.counts(), "received": proxy.received, "sent": proxy.sent}
        sys.stdout.write(f"{json.dumps(told)}\n")


if __name__ == "__main__":
    main()
