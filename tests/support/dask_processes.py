"""Schedulers and workers of Dask as other people start them, each a process of its own."""

import contextlib
import json
import os
import subprocess
import sys

from waiting import until

_START = """
import importlib.metadata, sys
sys.argv[0] = {role!r}
if {bare}:
    sys.modules["vfs_ops"] = None  # so that it cannot be imported
    version = importlib.metadata.version
    importlib.metadata.version = lambda name: version(name.replace("visual-feature-search", "none"))
from distributed.cli.{role} import main
main()
"""


@contextlib.contextmanager
def running_scheduler(folder, bare=False):
    """Start a scheduler, without this project if bare; yields its process and its address."""
    place = folder / "scheduler.json"
    options = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
    with _running("dask_scheduler", folder, bare, options) as process:
        yield process, until(lambda: _read_whole(place), [process])["address"]


@contextlib.contextmanager
def running_worker(folder, bare=False):
    """Start a worker of the scheduler of that folder, without this project if bare."""
    options = ("--nthreads", "2", "--no-nanny", "--local-directory", str(folder))
    with _running("dask_worker", folder, bare, options) as process:
        yield process


def _read_whole(place):
    """What a scheduler says of itself, or None: it creates its file empty and fills it then."""
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        return json.loads(place.read_text())
    return None


@contextlib.contextmanager
def _running(role, folder, bare, options):
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", _START.format(role=role, bare=bare)),
            *("--scheduler-file", str(folder / "scheduler.json"), "--no-dashboard", *options),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
