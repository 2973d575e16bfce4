"""An S3 server for tests, and the environment in which users' tools find it.

Ceph where it is installed (and where ``VFS_TESTS_REQUIRE`` names it), else moto, which is no proof:
it takes any secret for right.
"""

import asyncio
import contextlib
import functools
import itertools
import json
import secrets
from dataclasses import dataclass, field
from types import SimpleNamespace

import fsspec
import pytest
import requirements
from ceph import starting_ceph

from vfs_ops.store.filesystems import filesystem

_CACHED = ("s3", "http", "https")


@dataclass(frozen=True)
class S3Server:
    """A running server; `kind` is "ceph" or "moto"."""

    kind: str
    endpoint: str
    _numbers: itertools.count = field(default_factory=itertools.count)

    def environment(self, user="dev", endpoint=None):
        """Return the variables by which AWS's tools, s3fs among them, reach the server."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": f"{user}key",
            "AWS_SECRET_ACCESS_KEY": f"{user}secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def client(self):
        """Return an s3fs file system of the owner of all buckets, straight to the server."""
        return fsspec.filesystem(
            "s3",
            key="devkey",
            secret="devsecret",
            endpoint_url=self.endpoint,
            client_kwargs={"region_name": "us-east-1"},
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def new_bucket(self, *, public=()):
        """Make a bucket; `public` are the actions that anybody may do: "s3:GetObject", …"""
        name = f"bucket-{next(self._numbers)}-{secrets.token_hex(4)}"
        client = self.client()
        client.call_s3("create_bucket", Bucket=name)
        if public:
            statement = {
                "Effect": "Allow",
                "Principal": "*",
                "Action": list(public),
                "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
            }
            policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            client.call_s3("put_bucket_policy", Bucket=name, Policy=policy)
        return name


@contextlib.contextmanager
def starting_s3():
    """Start Ceph, or moto where it is not installed; stop it at the end.

    Yields a function that waits until the server answers, and returns it.
    """
    if requirements.available("ceph"):
        with starting_ceph() as ready:
            yield lambda: S3Server("ceph", ready())
        return
    with running_moto() as server:
        yield lambda: server


@contextlib.contextmanager
def running_moto():
    """Start moto in this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield S3Server("moto", "http://{}:{}".format(*server.get_host_and_port()))
    finally:
        server.stop()


@contextlib.contextmanager
def hasty_libraries():
    """Spare what takes time and proves nothing.

    AWS's library reads 2 MB of what services there are for each client: here once. s3fs pauses for
    0.1 s after a failure, the last one too, beside the pauses that are ours.
    """
    import botocore.session
    import s3fs.core

    async def sleep(seconds):
        await asyncio.sleep(0)

    with pytest.MonkeyPatch.context() as patch:
        load = functools.cache(botocore.session.create_loader)
        patch.setattr(botocore.session, "create_loader", load)
        hasty = SimpleNamespace(**{**vars(asyncio), "sleep": sleep})
        patch.setattr(s3fs.core, "asyncio", hasty)
        yield


@contextlib.contextmanager
def environment(variables):
    """Set variables of the environment, and let file systems be made anew, here and afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        forget_file_systems()
        yield
    forget_file_systems()


def forget_file_systems():
    """Drop fsspec's instances, which hold connections and credentials of what was set before."""
    filesystem.cache_clear()
    for protocol in _CACHED:
        fsspec.get_filesystem_class(protocol).clear_instance_cache()
