"""The Prefect server that `--track` starts beside a run; it ends with this process."""

from __future__ import annotations

import atexit
import subprocess
import sys
import tempfile
import threading
from typing import IO, Final, cast

from flows.privacy import keep_private
from vfs_ops.errors import UnavailableError

_STARTING_SECONDS: Final = 120.0  # Prefect's 20 are too tight on a busy laptop
_CLOSING_SECONDS: Final = 5.0


class EmbeddedServer:
    """A server that starts at once, and is waited for when it is needed."""

    def __init__(self) -> None:
        keep_private()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # for the whole life of the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.tracked.server_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,  # Ctrl-C is for the run, which then tells the server
        )
        self._address = ""
        # Registered before Prefect is imported, so that what Prefect sends at the end arrives.
        atexit.register(self.close)

    def address(self) -> str:
        """Return the address of the server's API, when it answers.

        Raises
        ------
        UnavailableError
            If it does not start.
        """
        if not self._address:
            overdue = threading.Timer(_STARTING_SECONDS, self._process.kill)
            overdue.daemon = True
            overdue.start()
            line = cast(IO[bytes], self._process.stdout).readline()
            overdue.cancel()
            self._address = line.decode().strip()
        if not self._address:
            raise UnavailableError(
                f"the embedded Prefect server did not start ({self._last_words()}); run without "
                "--track"
            )
        return self._address

    def close(self) -> None:
        """End the server; it may be asked for more than once."""
        if self._process.poll() is None:
            if not self._address:
                self._process.kill()  # it does not listen yet
            cast(IO[bytes], self._process.stdin).close()
            try:
                self._process.wait(_CLOSING_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            cast(IO[bytes], stream).close()

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it said nothing"
