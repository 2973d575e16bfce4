"""Fixtures that several test modules share."""

import os
import secrets
import shutil
import signal

import fsspec
import pytest
import torch
from certificates import fsspec_options, localhost_contexts
from hypothesis import HealthCheck, settings
from makers import cut_small, make_extractor, write_photos
from proxy import running_proxy
from s3_server import environment, forget_file_systems, hasty_libraries, starting_s3

from vfs_ops.builds import builder
from vfs_ops.caches.cache import open_cache
from vfs_ops.datasets.dataset import open_dataset
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.store import attempts
from vfs_ops.store.workspace import Workspace

# Below a background job of a shell Ctrl-C is ignored, and what tests start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A plan fixes the threads of a forward pass: processes that tests compare have one each.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# No test is about time: on a busy machine a slow example is no failure. The examples are the same
# every time: what passes here passes everywhere. `make test-long` seeks new ones.
settings.register_profile(
    "vfs",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    database=None,
)
settings.register_profile("seek", settings.get_profile("vfs"), derandomize=False)
settings.load_profile("vfs")


@pytest.fixture
def small_shards(monkeypatch):
    """Cut caches into shards of 16 images, chunks of 2 and batches of 8: few images make many."""
    cut_small(monkeypatch)


@pytest.fixture(autouse=True)
def hasty_retries(monkeypatch):
    """Ask a storage again without a pause worth waiting for."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.001)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Return a folder of 60 pictures with two labels; not to be changed."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 60)
    return folder


@pytest.fixture
def workspace(tmp_path):
    """Return an empty local workspace."""
    return Workspace.at(str(tmp_path / "workspace"))


@pytest.fixture(scope="session")
def _starting_s3():
    with starting_s3() as ready:
        yield ready


@pytest.fixture(scope="session", autouse=True)
def _start_early(request):
    """Start the S3 server beside the tests that come before those that ask it."""
    if any("s3_server" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("_starting_s3")


@pytest.fixture(scope="session")
def s3_server(_starting_s3):
    """Return a running S3 server: Ceph where it is installed, else moto."""
    with hasty_libraries():
        yield _starting_s3()


@pytest.fixture(scope="session")
def s3_bucket(s3_server):
    """Return the name of a bucket in which every test has a folder of its own."""
    return s3_server.new_bucket()


@pytest.fixture
def s3_environment(s3_server):
    """Set the environment by which everything finds the S3 server, child processes too."""
    with environment(s3_server.environment()):
        yield s3_server


@pytest.fixture
def s3_workspace(s3_environment, s3_bucket):
    """Return an empty workspace on the S3 server."""
    return Workspace.at(f"s3://{s3_bucket}/{secrets.token_hex(8)}")


@pytest.fixture
def s3_proxy(s3_environment):
    """Return a proxy before the S3 server, and lead everything that asks for s3:// through it."""
    with (
        running_proxy(s3_environment.endpoint) as proxy,
        environment(s3_environment.environment(endpoint=proxy.url)),
    ):
        yield proxy


@pytest.fixture(scope="session")
def _tls():
    return localhost_contexts()


@pytest.fixture
def https_proxy(s3_environment, _tls):
    """Return a proxy that serves the public buckets of the S3 server over https://."""
    server, client = _tls
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fsspec.config.conf, "https", fsspec_options(client))
        forget_file_systems()
        with running_proxy(s3_environment.endpoint, tls=server) as proxy:
            yield proxy
    forget_file_systems()


@pytest.fixture
def public_workspace(s3_environment):
    """Return an empty workspace in a bucket that anybody may read, and nobody else list."""
    return Workspace.at(f"s3://{s3_environment.new_bucket(public=['s3:GetObject'])}/ws")


@pytest.fixture
def https_workspace(public_workspace, https_proxy):
    """Return the public workspace as it is seen over https."""
    return Workspace.at(f"{https_proxy.url}/{public_workspace.url.removeprefix('s3://')}")


@pytest.fixture(params=["file", "memory", "s3"])
def any_workspace(request, tmp_path):
    """Return an empty workspace on every kind of store that can be written."""
    if request.param == "file":
        return Workspace.at(str(tmp_path / "any workspace"))
    if request.param == "memory":
        return Workspace.in_memory()
    return request.getfixturevalue("s3_workspace")


@pytest.fixture(scope="session")
def _ingested(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ingested") / "workspace"
    return folder, ingest(str(photos), Workspace.at(str(folder))).id


@pytest.fixture(scope="session")
def _built(_ingested, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "workspace"
    shutil.copytree(_ingested[0], folder)
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch)
        dataset = open_dataset(Workspace.at(str(folder)), _ingested[1])
        return folder, [cache.id for cache in builder.build(dataset, make_extractor())]


@pytest.fixture
def dataset(_ingested, workspace, tmp_path):
    """Return the photos as a dataset, in the test's own workspace."""
    shutil.copytree(_ingested[0], tmp_path / "workspace")
    return open_dataset(workspace, _ingested[1])


@pytest.fixture
def caches(_built, workspace, tmp_path):
    """Return the caches of the photos under both layers of the tiny CNN, 4 shards each."""
    shutil.copytree(_built[0], tmp_path / "workspace")
    return [open_cache(workspace, identity) for identity in _built[1]]


@pytest.fixture
def cache(caches):
    """Return the cache of the tiny CNN's first layer: 8×8 cells of 6 numbers."""
    return caches[0]


@pytest.fixture
def extractor():
    """Return a tiny CNN with two layers."""
    return make_extractor()
