"""Images over HTTP, from a real server on the loopback."""

import http.server
import re
from functools import partial
from pathlib import Path

import pytest
from makers import make_extractor, write_photos
from ports import held_port
from web_servers import running_web_server

from vfs_ops.builds.builder import build
from vfs_ops.datasets import sources
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import (
    AccessError,
    ForbiddenError,
    ImageChangedError,
    NotFoundError,
    StorageError,
    UnavailableError,
    VfsError,
)
from vfs_ops.store.locations import Folder, read_url, stat_url


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; `server.answer` may be a status, "cut", or "head" (405 to HEAD alone)."""

    def do_GET(self):
        self.server.fetched.append(self.path)
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if isinstance(self.server.answer, int):
            self.say(self.server.answer)
        elif self.server.answer == "cut":
            self.say(200, b"x" * 10, length=1000)
            self.close_connection = True
        elif wanted and self.server.ranges:
            data = Path(self.translate_path(self.path)).read_bytes()
            first, last = (int(text) if text else None for text in wanted.groups())
            self.say(
                206,
                data[-last:] if first is None else data[first : None if last is None else last + 1],
            )
        else:
            super().do_GET()

    def do_HEAD(self):
        if isinstance(self.server.answer, int):
            self.say(self.server.answer)
        elif self.server.answer == "head":
            self.say(405)
        else:
            super().do_HEAD()

    def say(self, status, data=b"", length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """Serve 12 pictures; `fetched` lists what was asked for."""
    write_photos(tmp_path / "served", 12)
    with running_web_server(partial(Handler, directory=str(tmp_path / "served"))) as made:
        made.fetched, made.answer, made.ranges = [], None, True
        yield made


@pytest.fixture
def base(server):
    return server.url


@pytest.fixture
def table(base, tmp_path):
    """Return a CSV of the pictures' URLs."""
    names = sorted(path.relative_to(tmp_path / "served") for path in tmp_path.glob("served/*/*"))
    lines = [f"{base}/{name.as_posix()},{name.parent}" for name in names]
    path = tmp_path / "images.csv"
    path.write_text("\n".join(["url,label", *lines]) + "\n")
    return path


def test_a_table_of_urls_is_ingested_built_and_not_read_again(server, table, workspace):
    dataset = ingest(str(table), workspace)
    assert dataset.count == 12
    assert dataset.table(["error"])["error"].null_count == 12
    assert dataset.table(["label"])["label"].to_pylist() == ["even"] * 6 + ["odd"] * 6
    caches = build(dataset, make_extractor())
    assert all(cache.invalid == {} for cache in caches)
    del server.fetched[:]
    assert ingest(str(table), workspace, previous=dataset).id == dataset.id
    assert server.fetched == []


def test_a_changed_image_stops_the_build_with_its_url(server, table, workspace, tmp_path):
    dataset = ingest(str(table), workspace)
    write_photos(tmp_path / "served", 1, seed=7)
    with pytest.raises(ImageChangedError, match=r"even/0000\.png"):
        build(dataset, make_extractor())


def test_a_dead_link_keeps_its_row_and_is_asked_for_again(server, table, workspace, tmp_path):
    path = tmp_path / "served" / "even" / "0000.png"
    picture = path.read_bytes()
    path.unlink()
    dataset = ingest(str(table), workspace)
    errors = dataset.table(["error"])["error"].to_pylist()
    assert "even/0000.png" in errors[0]
    assert errors[1:] == [None] * 11
    [cache, _] = build(dataset, make_extractor())
    assert list(cache.invalid) == [0]
    path.write_bytes(picture)
    del server.fetched[:]
    whole = ingest(str(table), workspace, previous=dataset)
    assert whole.table(["error"])["error"].null_count == 12
    assert server.fetched == ["/even/0000.png"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [(503, UnavailableError), (500, UnavailableError), (429, UnavailableError),
     (403, ForbiddenError), (401, AccessError), ("cut", UnavailableError)],
)  # fmt: skip
def test_a_server_that_fails_stops_the_ingest(server, table, workspace, answer, error):
    server.answer = answer
    with pytest.raises(error) as caught:
        ingest(str(table), workspace)
    assert type(caught.value) is error
    assert workspace.names("datasets") == []
    server.answer = None
    dataset = ingest(str(table), workspace)
    assert dataset.table(["error"])["error"].null_count == 12


@pytest.mark.parametrize("answer", [404, 410])
def test_only_a_dead_link_makes_an_unreadable_row(server, table, workspace, answer):
    server.answer = answer
    errors = ingest(str(table), workspace).table(["error"])["error"].to_pylist()
    assert all(f"HTTP status {answer}" in error for error in errors)


@pytest.mark.parametrize(
    ("answer", "error"),
    [(503, UnavailableError), (403, ForbiddenError), (404, NotFoundError), (410, NotFoundError)],
)
def test_a_folder_tells_what_the_server_said(server, base, answer, error):
    folder, server.answer = Folder.at(base), answer
    for act in (
        lambda: folder.read("even/0000.png"),
        lambda: folder.read("even/0000.png", 0, 4),
        lambda: folder.read("even/0000.png", -4),
        lambda: folder.stat("even/0000.png"),
        lambda: read_url(f"{base}/even/0000.png", 100),
        lambda: stat_url(f"{base}/even/0000.png"),
    ):
        with pytest.raises(error) as caught:
            act()
        assert type(caught.value) is error
    if error is NotFoundError:
        assert not folder.exists("even/0000.png")
    else:
        for look in (lambda: folder.exists("even/0000.png"), folder.walk):
            with pytest.raises(error):
                look()


def test_reading_over_http_agrees_with_reading_the_files(server, base, tmp_path):
    remote, local = Folder.at(base), Folder.at(str(tmp_path / "served"))
    (tmp_path / "served" / "empty").write_bytes(b"")
    path = "even/0000.png"
    for span in ((), (0, 5), (3, 9), (7,), (-6,), (4, 4), (None, 3)):
        assert remote.read(path, *span) == local.read(path, *span)
    assert remote.read("empty") == b""
    assert remote.exists(path)
    assert remote.stat(path).size == local.stat(path).size
    assert [stat.path for stat in remote.walk()] == [stat.path for stat in local.walk()]
    server.answer = "head"
    assert remote.stat(path).size == local.stat(path).size


def test_a_server_that_ignores_ranges_is_an_error(server, base):
    server.ranges = False
    folder = Folder.at(base)
    for span in ((0, 5), (3, 9), (7,), (-6,)):
        with pytest.raises(StorageError, match="ignores ranges"):
            folder.read("even/0000.png", *span)


def test_reading_a_url_is_bounded(base, tmp_path, table, workspace, monkeypatch):
    with (tmp_path / "served" / "long").open("wb") as file:
        file.truncate(2**30)
    assert read_url(f"{base}/long", 1000) == bytes(1000)
    monkeypatch.setattr(sources, "MAX_BYTES", 1000)
    monkeypatch.setattr(sources, "stat_url", lambda url: sources.FileStat(url, 0, ""))
    errors = ingest(str(table), workspace).table(["error"])["error"].to_pylist()
    assert all("more than 1000 bytes" in error for error in errors)


def test_no_server_at_all():
    for act in (lambda url: read_url(url, 9), stat_url):
        with held_port() as port, pytest.raises(UnavailableError):
            act(f"http://127.0.0.1:{port}/x")


@pytest.mark.parametrize(
    "url", ["http://a..b/x", "http://%00/x", "http://xn--\u00e9/", "http://-/"]
)
def test_odd_hosts_are_typed_errors(url):
    with pytest.raises(VfsError):
        read_url(url, 9)
