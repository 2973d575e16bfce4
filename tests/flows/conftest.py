"""Fixtures of the tests of the command line."""

import shutil

import pytest
from makers import write_photos

from flows.cli import main
from vfs_ops.storage import Workspace


@pytest.fixture
def vfs(capsys, tmp_path, monkeypatch):
    """Run the command line in a folder of its own; returns exit code, output and remarks."""
    monkeypatch.chdir(tmp_path)
    for name in ("VFS_WORKSPACE", "VFS_TRACEBACK", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)

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
