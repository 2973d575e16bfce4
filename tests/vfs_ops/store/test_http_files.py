"""Where servers lead on redirects, with real servers on the loopback."""

import contextlib
import http.server
import tracemalloc

import fsspec
import pytest
from web_servers import running_web_server

from vfs_ops.errors import InvalidUrlError, StorageError
from vfs_ops.store.filesystems import self_reliant_options
from vfs_ops.store.locations import Folder, read_url
from vfs_ops.store.workspace import Workspace


class Handler(http.server.BaseHTTPRequestHandler):
    """Redirects by the server's table; all else holds its own path."""

    def do_GET(self):
        self.server.asked.append(self.path)
        place = self.server.redirects.get(self.path)
        body = b"" if place else self.server.body or self.path.encode()
        self.send_response(302 if place else 200)
        if place:
            self.send_header("Location", place)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        """Say nothing."""


@contextlib.contextmanager
def serving(redirects):
    """Run a server; yields it with its `url`, and what it was `asked`."""
    with running_web_server(Handler) as server:
        server.redirects, server.asked, server.body = redirects, [], None
        yield server


@pytest.fixture
def other():
    with serving({}) as server:
        yield server


@pytest.fixture
def server(other):
    places = {"/moved": "/there", "/round": "/round", "/away": f"{other.url}/secret"}
    with serving(places) as server:
        server.redirects["/whole"] = f"{server.url}/there"
        server.redirects["/file"] = "file:///etc/hostname"
        server.redirects["/local"] = "//169.254.169.254/latest/meta-data"
        yield server


def test_a_workspace_is_followed_on_its_own_server(server):
    workspace = Workspace(server.url)
    assert workspace.read("moved") == workspace.read("whole") == b"/there"
    assert workspace.stat("moved").size == len("/there")


@pytest.mark.parametrize("name", ["away", "file", "local", "round"])
def test_no_workspace_leads_to_another_server(server, other, name):
    workspace = Workspace(server.url)
    with pytest.raises((StorageError, InvalidUrlError)):
        workspace.read(name)
    with pytest.raises((StorageError, InvalidUrlError)):
        workspace.stat(name)
    assert other.asked == []


def test_no_zarr_store_leads_to_another_server(server, other):
    options = self_reliant_options("https")
    files = fsspec.filesystem("http", skip_instance_cache=True, **options)
    assert files.cat_file(f"{server.url}/there") == b"/there"
    assert files.cat_file(f"{server.url}/away") != b"/secret"
    assert other.asked == []


def test_what_the_user_names_may_lie_elsewhere(server, other):
    assert Folder(server.url).read("away") == read_url(f"{server.url}/away", 99) == b"/secret"
    assert other.asked == ["/secret", "/secret"]


def test_a_file_takes_twice_its_size_while_it_is_put_together(other):
    other.body = b"four" * (1 << 20)
    folder = Folder.at(other.url)
    tracemalloc.start()
    try:
        data = folder.read("four")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert data == other.body
    assert peak < 2.5 * len(data)
    assert read_url(f"{other.url}/four", limit=100_003) == data[:100_003]
