"""A Prefect server and the programs that talk to it, as processes of their own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from ports import held_port
from waiting import until

ROOT = Path(__file__).parents[2]
VFS = [sys.executable, "-c", "from flows.cli import main; main()"]
PREFECT = [sys.executable, "-m", "prefect"]


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
    environment = {
        **os.environ,
        "PREFECT_HOME": str(folder / "prefect"),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("PREFECT_API_URL", None)
    command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--no-ui"]
    with (
        held_port() as port,
        running([*command, "--port", str(port)], environment, folder) as server,
    ):
        address = f"http://127.0.0.1:{port}/api"
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
