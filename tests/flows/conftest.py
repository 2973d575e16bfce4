"""Fixtures of the tests of the command line and the flows."""

import contextlib
import functools
import os
import shutil
from pathlib import Path

import prefect_runs
import pytest
from makers import write_photos
from web_servers import QuietFiles, running_web_server

from flows import embedded_server
from flows.cli import main
from flows.privacy import VARIABLES, keep_private
from vfs_ops.builds import clusters
from vfs_ops.store.workspace import Workspace


@pytest.fixture
def vfs(capsys, tmp_path, monkeypatch):
    """Run the command line in a folder of its own; returns exit code, output and remarks."""
    monkeypatch.chdir(tmp_path)
    for name in ("VFS_WORKSPACE", "VFS_TRACEBACK", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture(scope="session")
def _built_photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    write_photos(folder / "photos", 24)
    workspace = ["-w", str(folder / "vfs-workspace")]
    for arguments in (
        ["ingest", str(folder / "photos"), "--name", "photos"],
        ["build", "photos", "--model", "efficientnet-lite0", "--layer", "blocks.6"],
    ):
        with pytest.raises(SystemExit) as ended:
            main([*workspace, *arguments])
        assert ended.value.code == 0
    return folder


@pytest.fixture
def built(_built_photos, tmp_path):
    """Put photos and a workspace with a built cache into the current folder."""
    shutil.copytree(_built_photos, tmp_path, dirs_exist_ok=True)
    return Workspace.at(str(tmp_path / "vfs-workspace"))


@pytest.fixture(scope="session")
def guard():
    """Return the folder that makes Python processes note who they would phone, if it is a path."""
    return Path(prefect_runs.__file__).parent / "offline_guard"


@pytest.fixture(scope="session")
def phoned(tmp_path_factory):
    """Return the file where guarded processes note who they would phone; see `offline_guard`."""
    path = tmp_path_factory.mktemp("phoned") / "hosts"
    path.touch()
    return path


@pytest.fixture(scope="session")
def _guarded(tmp_path_factory, guard, phoned):
    """Return what sets, for a while, the environment of a Prefect of its own under guard."""
    home = tmp_path_factory.mktemp("prefect")

    @contextlib.contextmanager
    def guarded():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PREFECT_HOME", str(home))
            patch.setenv("PYTHONPATH", str(guard), prepend=os.pathsep)
            patch.setenv("VFS_TESTS_PHONED", str(phoned))
            for name in ("PREFECT_API_URL", *VARIABLES):
                patch.delenv(name, raising=False)
            yield

    return guarded


@pytest.fixture(scope="session")
def _starting_prefect(_guarded):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded_server, "_STARTING_SECONDS", 300.0)
        with _guarded():
            server = embedded_server.EmbeddedServer()
        with contextlib.closing(server):
            yield server


@pytest.fixture(scope="session", autouse=True)
def _start_prefect_early(request):
    """Start the server beside the tests that come before those that ask it."""
    if any("prefect_server" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("_starting_prefect")


@pytest.fixture(scope="session")
def prefect_server(_guarded, _starting_prefect):
    """Let the flows of this process be tracked by a real server with a database of its own."""
    with _guarded():
        keep_private()
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: _starting_prefect.address()}):
            yield


@pytest.fixture(scope="session")
def scheduler():
    """Run a Dask cluster of two processes; returns its client, whose `address` tells where."""
    with clusters.open_cluster("local", workers=2) as client:
        client.address = client.scheduler.address
        yield client


@pytest.fixture
def runs(prefect_server):
    """Ask the server about flow runs."""
    with prefect_runs.known_runs() as runs:
        yield runs


@pytest.fixture
def at_once(monkeypatch):
    """Do not wait before a stage is tried again."""
    monkeypatch.setattr("flows.tracked.retries.DELAYS", (0.0, 0.0, 0.0))


@pytest.fixture
def web(photos):
    """Serve the photos over HTTP; returns the server's address."""
    with running_web_server(functools.partial(QuietFiles, directory=str(photos))) as server:
        yield server.url
