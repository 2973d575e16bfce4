"""Images over HTTP, from a real server on the loopback."""

import http.server
import threading
from functools import partial

import pytest
from makers import make_extractor, write_photos

from vfs_ops.builder import build
from vfs_ops.errors import ImageChangedError
from vfs_ops.ingestion import ingest


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.fetched.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """Serve 12 pictures; `fetched` lists what was asked for."""
    write_photos(tmp_path / "served", 12)
    made = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "served"))
    )
    made.fetched = []
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def table(server, tmp_path):
    """Return a CSV of the pictures' URLs."""
    base = f"http://127.0.0.1:{server.server_port}"
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
