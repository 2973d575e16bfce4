"""A server that never stops sending fills no memory, whatever object of a cache it sends so."""

import contextlib
import http.server
import os
import threading

import numpy as np
import pytest
from made_caches import made_cache

from vfs_ops.builds.verification import verify
from vfs_ops.caches.cache import open_cache
from vfs_ops.errors import VfsError
from vfs_ops.sharing.mirroring import mirror_cache
from vfs_ops.store.workspace import Workspace

MOST = 24 << 20
"""Bytes that such a small cache may make a server send, those that lie in buffers included."""
OBJECTS = [
    *("cache.json", "plan.json", "complete.json", "receipts.parquet", "receipts/00000.json"),
    *("data.zarr/zarr.json", "features/c/0/0/0/0", "sq_norm/c/0/0/0", "valid/c/0"),
    *("probe/c/0/0/0", "data.zarr/y/c/0", "features/zarr.json", "dataset.json"),
    *("manifest.parquet", "source.json", "stat.parquet"),
]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a folder; the object that the server is given has no end."""

    def do_GET(self):
        path = self.server.folder + self.path
        if self.path.endswith(self.server.endless):
            return self.send_forever()
        if not os.path.isfile(path):
            return self.send_error(404)
        with open(path, "rb") as file:
            data = file.read()
        first, last = self.range_of(len(data))
        self.answer("bytes=" in self.headers.get("Range", ""), last - first)
        if self.command == "GET":
            self.wfile.write(data[first:last])
        return None

    do_HEAD = do_GET

    def range_of(self, size):
        start, _, stop = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        return int(start), min(int(stop) + 1 if stop else size, size)

    def send_forever(self):
        self.answer("Range" in self.headers, self.server.claimed)
        block = bytes(1 << 20)
        with contextlib.suppress(OSError):  # the client hangs up
            while self.command == "GET" and self.server.sent <= 2 * MOST:
                self.wfile.write(block)
                self.server.sent += len(block)
        self.close_connection = True

    def answer(self, partial, length):
        self.send_response(206 if partial else 200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    maps = np.ones((20, 2, 3, 4), np.float32)
    return str(folder), made_cache(Workspace.at(str(folder)), maps, images_per_shard=16)


@pytest.fixture(scope="module")
def server(made):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.folder = made[0]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def use(workspace, identity):
    """Do all that a reader does; returns what `verify` finds."""
    cache = open_cache(workspace, identity)
    mirror_cache(workspace, Workspace.in_memory(), identity)
    assert cache.probe.size
    cache.read_shard(0)
    cache.feature_map(1)
    return verify(cache)


@pytest.mark.parametrize("claimed", [None, 1 << 50])
@pytest.mark.parametrize("name", OBJECTS)
def test_no_object_is_read_without_end(server, made, name, claimed):
    server.endless, server.claimed, server.sent = name, claimed, 0
    workspace = Workspace(f"http://127.0.0.1:{server.server_port}")
    try:
        found = use(workspace, made[1].id)
    except VfsError as error:
        found = [error]
    assert found or not server.sent
    assert server.sent <= MOST
