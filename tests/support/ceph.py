"""A Ceph of its own on the loopback, which ends with the process that started it."""

import contextlib
import random
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).with_name("ceph_s3.sh")
SECONDS_TO_START = 120


@contextlib.contextmanager
def running_ceph(attempts=3):
    """Start a RADOS Gateway; yield its URL. It knows ``devkey`` and ``otherkey``."""
    for attempt in range(attempts):
        folder = Path(tempfile.mkdtemp(prefix="vfs-ceph-"))  # short, since sockets lie in it
        gateway, monitor = free_port(), free_port()
        command = ["bash", SCRIPT, folder, str(gateway), str(monitor)]
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        try:
            if process.stdout.readline() == b"ready\n":
                yield f"http://127.0.0.1:{gateway}"
                return
            if attempt == attempts - 1:
                raise RuntimeError(
                    f"Ceph did not start: {(folder / 'log.txt').read_text()[-2000:]}"
                )
        finally:
            process.stdin.close()
            process.wait(SECONDS_TO_START)
            process.stdout.close()
            shutil.rmtree(folder, ignore_errors=True)


def free_port():
    """Return a port below those that the system gives to outgoing connections."""
    while True:
        port = random.SystemRandom().randint(10_000, 32_000)
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
