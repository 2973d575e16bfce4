"""HTTP servers in a thread of the test's own process."""

import contextlib
import http.server
import threading

_LOOK_SECONDS = 0.01
"""How soon a server sees that it shall end; its own 0.5 s would be waited for by every test."""


@contextlib.contextmanager
def running_web_server(handler):
    """Serve on a free port of the loopback; yields the server, which has a `url`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(_LOOK_SECONDS,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_):
        """Say nothing."""
