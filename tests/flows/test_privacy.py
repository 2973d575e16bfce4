"""Nothing phones home."""

import os
import subprocess
import sys
import time

import prefect_runs
import pytest

from flows.jobs.ingestion import IngestJob
from flows.privacy import VARIABLES, keep_private
from flows.running import run_tracked


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
        while not phoned.read_text():
            assert server.poll() is None
            time.sleep(0.2)
        server.stdin.close()
        assert server.wait() == 0
    assert "prefect.io" in phoned.read_text()
