"""Listings of an object store, from a server on the loopback that speaks S3's protocol."""

import http.server
from urllib.parse import parse_qs, urlsplit

import pytest
import s3fs
from web_servers import running_web_server

from vfs_ops.store.filesystems import filesystem
from vfs_ops.store.workspace import Workspace


class Bucket(http.server.BaseHTTPRequestHandler):
    """Answers HEAD of an object, and ListObjectsV2 with prefix and delimiter."""

    def do_HEAD(self):
        key = urlsplit(self.path).path.removeprefix("/bucket/")
        self.answer(200 if key in self.server.keys else 404)

    def do_GET(self):
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        prefix, files, folders = query.get("prefix", ""), [], set()
        for key in self.server.keys:
            if key.startswith(prefix):
                head, slash, _ = key[len(prefix) :].partition("/")
                if slash and "delimiter" in query:
                    folders.add(f"{prefix}{head}/")
                else:
                    files.append(key)
        body = "".join(f"<Contents><Key>{k}</Key><Size>1</Size></Contents>" for k in files)
        body += "".join(f"<CommonPrefixes><Prefix>{p}</Prefix></CommonPrefixes>" for p in folders)
        count = f"<KeyCount>{len(files) + len(folders)}</KeyCount><IsTruncated>false</IsTruncated>"
        self.answer(200, f"<ListBucketResult>{count}{body}</ListBucketResult>".encode())

    def answer(self, status, data=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def bucket(monkeypatch):
    with running_web_server(Bucket) as made:
        made.keys = []
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        filesystem.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()
        yield made
        filesystem.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()


def test_what_others_wrote_meanwhile_is_listed(bucket):
    workspace = Workspace.at("s3://bucket/ws")
    bucket.keys = ["ws/a/one"]
    assert workspace.names("a") == ["one"]
    assert [stat.path for stat in workspace.walk()] == ["a/one"]
    assert not workspace.exists("a/two")
    bucket.keys = ["ws/a/two", "ws/b/three"]
    assert workspace.names("a") == ["two"]
    assert workspace.names("") == ["a", "b"]
    assert [stat.path for stat in workspace.walk()] == ["a/two", "b/three"]
    assert workspace.exists("a/two")
    assert not workspace.exists("a/one")
