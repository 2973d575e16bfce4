"""Ports of the loopback that nobody else is given."""

import contextlib
import socket


@contextlib.contextmanager
def held_port():
    """Hold a free port; yields its number.

    The system gives it to nobody while it is held. Connections to it are refused, until a server
    that is told its number listens there: servers share a port with who is bound to it and does
    not listen (SO_REUSEADDR). A port that was found free and let go may be taken before it is used.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
