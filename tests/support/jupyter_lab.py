"""A real JupyterLab with real kernels, apart from the user's own settings."""

from __future__ import annotations

import base64
import json
import os
import pickle
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import nbformat
from jupyter_client import BlockingKernelClient
from jupyter_core.utils import ensure_event_loop
from ports import held_port

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

    def execute(self, code, seconds=START_SECONDS):
        """Run statements; raise what they raise."""
        self._ask(code, {}, seconds)

    def evaluate(self, expression, seconds=START_SECONDS):
        """Return the value of an expression: anything that pickles, arrays included."""
        packed = (
            "__import__('base64').b64encode("
            f"__import__('pickle').dumps(({expression}), protocol=5)).decode()"
        )
        found = self._ask("", {"value": packed}, seconds)["user_expressions"]["value"]
        if found["status"] != "ok":
            raise RuntimeError(f"{expression}: {found['ename']}: {found['evalue']}")
        return pickle.loads(base64.b64decode(found["data"]["text/plain"].strip("'")))

    def wait_until(self, expression, seconds=START_SECONDS):
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
    names = ("config", "data", "settings", "spaces", "notebooks", "app")
    places = {name: folder / name for name in names}
    for place in places.values():
        place.mkdir(parents=True)
    (places["app"] / "overrides.json").write_text(json.dumps(_OVERRIDES))
    token = secrets.token_hex(16)
    environment = {
        **os.environ,
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
        *("--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0"),
        "--KernelManager.transport=ipc",  # its TCP ports are found free, and may be taken then
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={places['notebooks']}",
    ]
    log = folder / "server.log"
    with held_port() as port, short_folder() as runtime, log.open("wb") as output:
        server = subprocess.Popen(
            [*command, f"--ServerApp.port={port}"],
            env={**environment, "JUPYTER_RUNTIME_DIR": str(runtime)},
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
        try:
            url = f"http://127.0.0.1:{port}/"
            _wait_for(url + f"api/status?token={token}", server, log)
            yield Lab(url, token, places["notebooks"], runtime)
        finally:
            server.terminate()  # ends its kernels too
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@contextmanager
def short_folder():
    """Make a folder for sockets, whose names have a hundred letters at most; remove it."""
    with tempfile.TemporaryDirectory(prefix="vfs-", dir="/tmp", ignore_cleanup_errors=True) as made:
        yield Path(made)


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
