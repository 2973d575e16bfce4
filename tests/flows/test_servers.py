import http.server
import subprocess
import sys

import pytest
from ports import held_port
from web_servers import running_web_server

from flows import servers
from vfs_ops.errors import UnavailableError

URL = "http://127.0.0.1:4200/api"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return Prefect's folder of a person who has configured nothing."""
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "home"


PROFILES = f"""
active = "ephemeral"
[profiles.ephemeral]
PREFECT_SERVER_ALLOW_EPHEMERAL_MODE = "true"
[profiles.local]
PREFECT_API_URL = "{URL}"
"""


CASES = [
    (None, "", {"PREFECT_API_URL": URL}),
    ("profiles.toml", PROFILES, {"PREFECT_PROFILE": "local"}),
    ("profiles.toml", PROFILES.replace('"ephemeral"', '"local"', 1), {}),
    ("../project/.env", f"A=b\nexport PREFECT_API_URL='{URL}'\n", {}),
    ("../project/prefect.toml", f'[api]\nurl = "{URL}"\n', {}),
    ("../project/pyproject.toml", f'[tool.prefect]\napi.url = "{URL}"\n', {}),
]


@pytest.fixture(params=CASES, ids=lambda case: case[0] or "environment")
def told(request, home, monkeypatch):
    """Tell Prefect of a server in one of the ways there are."""
    assert servers.configured() is None
    file, text, environment = request.param
    if file:
        (home / file).write_text(text)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_configured_server_is_found(told):
    assert servers.configured() == URL


@pytest.mark.long
def test_prefect_finds_the_same_server(told):
    script = "from prefect.settings import get_current_settings as now; print(now().api.url)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == servers.configured()


@pytest.mark.parametrize(
    "text", [PROFILES, "no = [toml", "[profiles]\nephemeral = 3", "active = 4"]
)
def test_other_profiles_name_no_server(home, text):
    (home / "profiles.toml").write_text(text)
    assert servers.configured() is None


def test_a_server_that_does_not_answer_is_told_in_a_line():
    class Busy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(401)

        def log_message(self, *_):
            pass

    with running_web_server(Busy) as server:
        servers.check_answers(f"{server.url}/api")
    with held_port() as port, pytest.raises(UnavailableError, match="prefect server start"):
        servers.check_answers(f"http://127.0.0.1:{port}/api")
    for wrong in ("file:///etc/passwd", "localhost"):
        with pytest.raises(UnavailableError, match="http://"):
            servers.check_answers(wrong)
