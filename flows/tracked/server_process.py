"""The embedded Prefect server, as a process of its own: ``python -m flows.tracked.server_process``.

It writes its address to standard output when it answers, and serves until its standard input ends,
as it does when the process that started it is gone, however it went. Signals do not end it: who
interrupts a run interrupts the whole group of processes, and the run still has to say so here.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from typing import Final

_CLOSING_SECONDS: Final = 3.0


def main() -> None:
    """Serve on a free port of this machine."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    import uvicorn
    from prefect.server.api.server import create_app

    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(ephemeral=True, final=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    serving = threading.Thread(target=_serve, args=(server, listening))
    serving.start()
    while not server.started:
        time.sleep(0.05)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/api", flush=True)  # noqa: T201
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads there any more
    sys.stdin.read()
    server.should_exit = True
    serving.join(_CLOSING_SECONDS)
    os._exit(0)


def _serve(server: object, listening: socket.socket) -> None:
    try:
        server.run([listening])  # type: ignore[attr-defined]
    finally:
        os._exit(1 if not server.should_exit else 0)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
