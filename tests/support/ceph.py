"""A Ceph of its own on the loopback, which ends with the process that started it."""

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from ports import held_port

SCRIPT = Path(__file__).with_name("ceph_s3.sh")
SECONDS_TO_END = 120


@contextlib.contextmanager
def starting_ceph():
    """Start a RADOS Gateway, which knows ``devkey`` and ``otherkey``.

    Yields a function that waits until it answers, some ten seconds, and returns its URL.
    """
    with held_port() as gateway, held_port() as monitor:
        folder = Path(tempfile.mkdtemp(prefix="vfs-ceph-"))  # short, since sockets lie in it
        command = ["bash", SCRIPT, folder, str(gateway), str(monitor)]
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        try:

            def ready():
                if process.stdout.readline() != b"ready\n":
                    said = (folder / "log.txt").read_text()[-2000:]
                    raise RuntimeError(f"Ceph did not start: {said}")
                return f"http://127.0.0.1:{gateway}"

            yield ready
        finally:
            process.stdin.close()
            process.wait(SECONDS_TO_END)
            process.stdout.close()
            shutil.rmtree(folder, ignore_errors=True)
