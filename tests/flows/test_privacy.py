"""Nothing phones home."""

import os
import pty
import subprocess
import sys

import prefect_runs
import pytest
from prefect_processes import ROOT, VFS
from waiting import until

from flows.jobs.ingestion import IngestJob
from flows.privacy import VARIABLES, keep_private
from flows.running import run_tracked

TOLD = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "BUILDKITE", "TF_BUILD")
"""Variables by which Prefect knows that no person is there, and sends nothing."""


def test_what_a_person_has_set_stays(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    keep_private()
    assert os.environ["DO_NOT_TRACK"] == "0"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_a_tracked_run_speaks_to_this_machine_alone(runs, phoned, photos, workspace):
    run_tracked(IngestJob(workspace=workspace.url, name="photos", source=str(photos)))
    settings = runs.client.request("GET", "/admin/settings").json()
    assert settings["server"]["analytics_enabled"] is False
    assert settings["server"]["ui"]["show_promotional_content"] is False
    assert settings["cloud"]["enable_orchestration_telemetry"] is False
    assert phoned.read_text() == ""


def test_a_command_in_a_terminal_speaks_to_this_machine_alone(
    runs, guard, phoned, photos, workspace, tmp_path
):
    """The process of the command is that of the flow run; only terminals are told on."""
    environment = {
        **{key: value for key, value in os.environ.items() if key not in (*VARIABLES, *TOLD)},
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": str(runs.client.api_url),
        "PYTHONPATH": os.pathsep.join([str(guard), str(ROOT)]),
        "VFS_TESTS_PHONED": str(phoned),
    }
    command = [*VFS, "-w", workspace.url, "ingest", str(photos), "--name", "photos"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        with open(ours, "rb", buffering=0) as terminal:
            said = b"".join(iter(lambda: _read(terminal), b"")).decode()
    assert process.returncode == 0, said
    assert "tracked by the Prefect server at http://127.0.0.1" in said
    assert runs.last()["name"] == "ingest photos"
    assert phoned.read_text() == ""


def _read(terminal):
    """Return what a terminal shows next; nothing when those who write to it have ended."""
    try:
        return terminal.read(65536)
    except OSError:
        return b""


SERVER = """
from prefect.server.api.server import SubprocessASGIServer
import sys
with SubprocessASGIServer():
    sys.stdin.read()
"""


@pytest.mark.long
def test_the_guard_notes_a_server_that_phones_home(tmp_path):
    """The test above could not fail if the guard saw nothing."""
    phoned = tmp_path / "hosts"
    phoned.touch()
    environment = {
        **{key: value for key, value in os.environ.items() if key not in VARIABLES},
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PYTHONPATH": os.path.join(os.path.dirname(prefect_runs.__file__), "offline_guard"),
        "VFS_TESTS_PHONED": str(phoned),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "true",
    }
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        until(phoned.read_text, [server])
        server.stdin.close()
        assert server.wait() == 0
    assert "prefect.io" in phoned.read_text()
