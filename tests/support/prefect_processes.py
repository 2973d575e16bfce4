"""A Prefect server and the programs that talk to it, as processes of their own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
VFS = [sys.executable, "-c", "from flows.cli import main; main()"]
PREFECT = [sys.executable, "-m", "prefect"]


def until(condition, processes=(), seconds=150):
    """Wait for what a condition returns; fail if a process ends before, or at the end of time."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        for process in processes:
            assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < end, f"{condition} did not come true in {seconds} s"
        time.sleep(0.2)
    return found


@contextlib.contextmanager
def running(command, environment, folder, stop=signal.SIGINT):
    """Run a program whose output goes to files in a folder; it is stopped at the end."""
    number = len(list(folder.glob("*.log")))
    with (folder / f"{number}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(stop)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def running_server(folder):
    """Run a server; gives the environment of those who talk to it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(folder / "prefect"),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("PREFECT_API_URL", None)
    command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with running(command, environment, folder) as server:
        until(lambda: _answers(f"{address}/health"), [server])
        yield {**environment, "PREFECT_API_URL": address}


def ask(environment, what, **body):
    """Return the server's answer to a POST of JSON."""
    request = urllib.request.Request(
        environment["PREFECT_API_URL"] + what,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
