"""The tests' own proxy does what it is asked to, or tests that use it would prove nothing."""

import http.client
import http.server
import threading
import time
import urllib.error
import urllib.request

import pytest
from proxy import running_proxy
from web_servers import running_web_server

BODY = bytes(range(256)) * 4000


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        start, stop = 0, len(BODY)
        if wanted := self.headers.get("Range"):
            start, stop = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
            stop += 1
        self.answer(206 if wanted else 200, BODY[start:stop])

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.stored.append(data)
        self.answer(200, data)

    def answer(self, status, data):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with running_web_server(Echo) as running:
        running.stored = []
        yield running


@pytest.fixture
def proxy(server):
    with running_proxy(server.url) as running:
        yield running


def ask(proxy, path="/x", data=None, timeout=60, **headers):
    request = urllib.request.Request(
        proxy.url + path, data, headers, method="PUT" if data else "GET"
    )
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read()


def test_requests_pass_and_are_counted(proxy, server):
    assert ask(proxy) == BODY
    assert ask(proxy, "/y?z=%2F", Range="bytes=2-4") == BODY[2:5]
    assert ask(proxy, data=BODY) == BODY
    assert server.stored == [BODY]
    assert proxy.counts() == {"GET": 2, "PUT": 1}
    assert proxy.count("GET", "z=/") == 1
    assert (proxy.received, proxy.sent) == (len(BODY), 2 * len(BODY) + 3)
    proxy.forget()
    assert proxy.requests == []


def test_the_requests_that_were_named_fail(proxy):
    proxy.fail("503", path="^/x", after=1, times=2)
    ask(proxy)
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(proxy)
        assert caught.value.code == 503
        caught.value.close()
        ask(proxy, "/other")
    ask(proxy)
    assert [request.failed for request in proxy.requests if request.target == "/x"] == [
        None, "503", "503", None,
    ]  # fmt: skip


@pytest.mark.parametrize(("how", "stored"), [("reset", 0), ("lost", 1), ("cut", 1)])
def test_connections_break(proxy, server, how, stored):
    proxy.fail(how, method="PUT")
    with pytest.raises((OSError, http.client.IncompleteRead)):
        ask(proxy, data=BODY)
    assert len(server.stored) == stored
    assert ask(proxy, data=BODY) == BODY


def test_what_hangs_is_never_answered(proxy, server):
    proxy.fail("hang", method="PUT")
    came = threading.Event()
    proxy.on_hang = came.set
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"))
    connection.request("PUT", "/x", BODY)
    assert came.wait(60)
    connection.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
    assert server.stored == []
    assert ask(proxy, data=BODY) == BODY


def test_ranges_are_ignored_when_asked(proxy):
    proxy.fail("ignore-range")
    assert ask(proxy, Range="bytes=2-4") == BODY


def test_a_slow_line_is_as_slow_as_asked(server):
    with running_proxy(server.url, latency=0.05, gbit=0.08) as proxy:  # 10 MB/s
        before = time.monotonic()
        ask(proxy)
        assert time.monotonic() - before >= 0.9 * (0.05 + len(BODY) / 10e6)
