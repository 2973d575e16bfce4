"""A real JupyterLab with real kernels, apart from the user's own settings."""

from __future__ import annotations

import base64
import json
import os
import pickle
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import nbformat
from jupyter_client import BlockingKernelClient
from jupyter_core.utils import ensure_event_loop

ROOT = Path(__file__).parents[2]
START_SECONDS = 150
_OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {
        "checkForUpdates": False,
        "doNotDisturbMode": True,
        "fetchNews": "false",
    },
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # cells stay in the page
}


class Lab:
    """A running server: its address, its folder of notebooks, its kernels."""

    def __init__(self, url, token, folder, runtime):
        self.url, self.token, self.folder, self._runtime = url, token, folder, runtime
        self._notebooks = 0

    def write_notebook(self, cells):
        """Write a notebook with these code cells; return its name."""
        self._notebooks += 1
        name = f"notebook-{self._notebooks}.ipynb"
        made = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(made, self.folder / name)
        return name

    def address(self, path):
        return f"{self.url}{path}?token={self.token}"

    def connection_file(self, kernel_id):
        return self._runtime / f"kernel-{kernel_id}.json"


class Kernel:
    """Python of a notebook's kernel, asked from outside while the notebook is open.

    The client lives on a thread of its own: Playwright occupies the event loop of the test's.
    """

    def __init__(self, connection_file):
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kernel-client")
        self._client = BlockingKernelClient(connection_file=str(connection_file))
        self._thread.submit(self._connect).result()

    def _connect(self):
        self._client.load_connection_file()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=START_SECONDS)

    def execute(self, code, seconds=60):
        """Run statements; raise what they raise."""
        self._ask(code, {}, seconds)

    def evaluate(self, expression, seconds=60):
        """Return the value of an expression: anything that pickles, arrays included."""
        packed = (
            "__import__('base64').b64encode("
            f"__import__('pickle').dumps(({expression}), protocol=5)).decode()"
        )
        found = self._ask("", {"value": packed}, seconds)["user_expressions"]["value"]
        if found["status"] != "ok":
            raise RuntimeError(f"{expression}: {found['ename']}: {found['evalue']}")
        return pickle.loads(base64.b64decode(found["data"]["text/plain"].strip("'")))

    def wait_until(self, expression, seconds=30):
        """Wait until an expression is true; return its value."""
        limit = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            if time.monotonic() > limit:
                raise TimeoutError(f"{expression} is still {value!r} after {seconds} s")
            time.sleep(0.02)
        return value

    def _ask(self, code, expressions, seconds):
        def ask():
            sent = self._client.execute(
                code, silent=True, user_expressions=expressions, store_history=False
            )
            limit = time.monotonic() + seconds
            while True:
                reply = self._client.get_shell_msg(timeout=max(limit - time.monotonic(), 0.01))
                if reply["parent_header"].get("msg_id") == sent:
                    return reply["content"]

        content = self._thread.submit(ask).result()
        if content["status"] != "ok":
            raise RuntimeError("\n".join(content.get("traceback", [str(content)])))
        return content

    def close(self):
        self._thread.submit(self._disconnect).result()
        self._thread.shutdown()

    def _disconnect(self):
        self._client.stop_channels()
        ensure_event_loop().close()  # that of this thread, which the client made


@contextmanager
def running_lab(folder):
    """Start JupyterLab in an empty folder; yield a `Lab`; end it with its kernels."""
    places = {name: folder / name for name in ("runtime", "config", "data", "settings", "spaces")}
    places["notebooks"], places["app"] = folder / "notebooks", folder / "app"
    for place in places.values():
        place.mkdir(parents=True)
    (places["app"] / "overrides.json").write_text(json.dumps(_OVERRIDES))
    token, port = secrets.token_hex(16), _free_port()
    environment = {
        **os.environ,
        "JUPYTER_RUNTIME_DIR": str(places["runtime"]),
        "JUPYTER_CONFIG_DIR": str(places["config"]),
        "JUPYTER_DATA_DIR": str(places["data"]),
        "JUPYTERLAB_SETTINGS_DIR": str(places["settings"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(places["spaces"]),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        "--expose-app-in-browser",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",  # the other one asks PyPI
        f"--LabApp.app_settings_dir={places['app']}",
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={places['notebooks']}",
    ]
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        url = f"http://127.0.0.1:{port}/"
        _wait_for(url + f"api/status?token={token}", server, log)
        yield Lab(url, token, places["notebooks"], places["runtime"])
    finally:
        server.terminate()  # ends its kernels too
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(url, server, log):
    limit = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}") from error
        time.sleep(0.05)
