"""Commands end soon when they are interrupted, and when their work is done."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prefect_processes import ROOT, VFS
from web_servers import QuietFiles, running_web_server

import catalog

INTERRUPTED = "interrupted; run the same command again to go on"
DEAF = """
import sys, time
from flows import interruption
interruption.SECONDS = float(sys.argv[1])
interruption.end_promptly()
try:
    print("ready", flush=True)
    time.sleep(1000)
except KeyboardInterrupt:
    print("heard", flush=True)
time.sleep(1000)
"""
LINGERING = """
import sys, threading
from flows import interruption
interruption.SECONDS = float(sys.argv[1])
interruption.end_promptly()
threading.Thread(target=threading.Event().wait).start()
{}
interruption.finish(3)
{}
"""
READY = 'print("ready", flush=True)'

SERVING = """
import sys, time
from flows import interruption
interruption.SECONDS = float(sys.argv[1])
interruption.end_promptly()
interruption.take_time()
try:
    try:
        print("ready", flush=True)
        time.sleep(1000)
    except KeyboardInterrupt:
        print("heard", flush=True)
        time.sleep(1000)
except KeyboardInterrupt:
    print("heard again", flush=True)
"""


@pytest.fixture
def start():
    """Run a script that says when it is ready."""
    started = []

    def run(script, seconds):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(seconds)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_who_does_not_hear_a_signal_is_ended(start, sent):
    process = start(DEAF, 0.2)
    process.send_signal(sent)
    said = process.communicate()[1]
    assert (process.returncode, said.split("\n")) == (130, [INTERRUPTED, ""])


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_ends_at_once(start, first):
    process = start(DEAF, 1000)
    process.send_signal(first)
    assert process.stdout.readline() == "heard\n"
    process.send_signal(signal.SIGINT)
    assert INTERRUPTED in process.communicate()[1]
    assert process.returncode == 130


def test_a_command_that_is_done_waits_for_nobody(start):
    process = start(LINGERING.format(READY, ""), 0.2)
    assert process.communicate()[1] == ""
    assert process.returncode == 3
    process = start(LINGERING.format("", READY), 1000)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == ""
    assert process.returncode == 3  # the work is done


def test_a_closed_terminal_hinders_no_end(start):
    process = start(DEAF, 0.2)
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_who_takes_its_time_hears_every_signal(start, first, second):
    process = start(SERVING, 1000)
    process.send_signal(first)
    assert process.stdout.readline() == "heard\n"
    process.send_signal(second)
    assert process.communicate()[0] == "heard again\n"
    assert process.returncode == 0


class Waiting(QuietFiles):
    """Serves photos; who asks for the table of them waits."""

    def do_GET(self):
        """Answer."""
        if self.path.endswith("photos.csv"):
            self.server.asked.set()
            self.server.answer.wait()
        with contextlib.suppress(BrokenPipeError):  # who asked is gone
            super().do_GET()


@pytest.fixture
def web(photos):
    """Serve the photos, and hold back the table of three of them."""
    with running_web_server(functools.partial(Waiting, directory=str(photos))) as server:
        server.asked, server.answer = threading.Event(), threading.Event()
        names = [path.relative_to(photos) for path in sorted(photos.rglob("*.png"))[:3]]
        table = photos / "photos.csv"
        table.write_text("\n".join(["url", *(f"{server.url}/{name}" for name in names)]))
        server.table = f"{server.url}/photos.csv"
        try:
            yield server
        finally:
            server.answer.set()
            table.unlink()


@pytest.fixture
def tracked(web, workspace, tmp_path):
    """Run an ingest with its own Prefect server, up to where it waits for the table."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    environment.pop("PREFECT_API_URL", None)
    command = [*VFS, "-w", workspace.url, "ingest", web.table, "--name", "few", "--track"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        assert web.asked.wait(150)
        yield run
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)


def children(process):
    """Return the ids of the processes that a process has started."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def told(process):
    """Return what a process says until it ends, but for what it is doing while that takes long."""
    said = process.communicate()[1].split("\n")
    return [line for line in said if line and not line.endswith(" …")]


@pytest.mark.long
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_tracked_run_ends_when_its_group_is_interrupted(tracked, sent, workspace):
    os.killpg(tracked.pid, sent)
    said = told(tracked)
    assert (tracked.returncode, said[1:]) == (130, [INTERRUPTED])
    assert said[0].startswith("tracked by an embedded Prefect server")
    assert workspace.walk() == []


@pytest.mark.long
def test_a_run_whose_server_was_killed_can_be_interrupted(tracked):
    for child in children(tracked):
        os.kill(child, signal.SIGKILL)
    os.killpg(tracked.pid, signal.SIGINT)
    said = told(tracked)
    assert (tracked.returncode, said[1:]) == (130, [INTERRUPTED])


@pytest.mark.long
def test_a_run_whose_server_was_killed_does_its_work(tracked, web, workspace):
    for child in children(tracked):
        os.kill(child, signal.SIGKILL)
    web.answer.set()
    said = told(tracked)
    assert tracked.returncode == 0, said
    assert any("does not answer" in line for line in said)
    assert not any("Traceback" in line or "Error" in line for line in said), said
    assert catalog.open_dataset(workspace, "few").count == 3
