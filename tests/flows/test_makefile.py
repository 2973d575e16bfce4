"""The Makefile, with an interpreter and a program that only note what they are asked for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import flows

MAKEFILE = Path(flows.__file__).parents[1] / "Makefile"

PYTHON = """#!/bin/sh
echo "python $*" >> log
case "$*" in
  "-m venv .venv")
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    cp vfs .venv/bin/vfs
    test ! -e broken || exit 1
    touch .venv/pip;;
  "-m pip --version") test -e .venv/pip;;
esac
"""
VFS = """#!/bin/sh
printf '%s\\n' "$@" > asked
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def make(tmp_path):
    """Return what runs make in a folder with the Makefile; gives its exit code and its log."""
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    for name, text in (("fake-python", PYTHON), ("vfs", VFS)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(*arguments, **environment):
        inherited = {key: os.environ[key] for key in ("PATH", "HOME")}
        done = subprocess.run(
            ["make", "-s", f"PYTHON={tmp_path / 'fake-python'}", *arguments],
            cwd=tmp_path,
            env={**inherited, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        log = tmp_path / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return done.returncode, lines

    return run


def installs(lines):
    return [line for line in lines if "pip install" in line]


def test_what_is_installed_is_not_installed_again(make, tmp_path):
    code, lines = make("demo")
    assert code == 0
    assert "python -m venv .venv" in lines
    assert [line.split()[-1] for line in installs(lines)] == [".[demo]"]
    assert (tmp_path / "asked").read_text() == "demo\n--track\n"
    assert make("demo") == (0, [])
    later = (tmp_path / ".venv" / ".demo").stat().st_mtime + 5
    os.utime(tmp_path / "pyproject.toml", (later, later))
    assert len(installs(make("demo")[1])) == 1


def test_a_half_made_environment_is_made_again(make, tmp_path):
    (tmp_path / "broken").touch()
    code, lines = make("demo")
    assert code != 0
    assert installs(lines) == []
    assert not (tmp_path / ".venv").exists()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)  # as left by something else
    shutil.copy(tmp_path / "fake-python", tmp_path / ".venv" / "bin" / "python")
    (tmp_path / "broken").unlink()
    code, lines = make("demo")
    assert code == 0
    assert "python -m venv .venv" in lines
    assert make("demo") == (0, [])


def test_an_environment_that_works_is_kept(make, tmp_path):
    assert make("demo")[0] == 0
    (tmp_path / ".venv" / ".made").unlink()
    (tmp_path / ".venv" / "kept").touch()
    assert make("demo") == (0, ["python -m pip --version"])
    assert (tmp_path / ".venv" / "kept").exists()


@pytest.mark.parametrize(
    "images",
    [
        "~/Pictures",
        "it's",
        'a "b" c',
        "$(touch evil)",
        "$(shell touch evil)",
        "`touch evil`",
        "$$X",
    ],
)
def test_the_folder_of_photos_arrives_as_it_was_typed(make, tmp_path, images):
    for arguments, environment in (([f"IMAGES={images}"], {}), ([], {"IMAGES": images})):
        assert make("demo", *arguments, **environment)[0] == 0
        assert (tmp_path / "asked").read_text().splitlines() == [
            "demo",
            "--track",
            "--images",
            images,
        ]
    assert not (tmp_path / "evil").exists()
