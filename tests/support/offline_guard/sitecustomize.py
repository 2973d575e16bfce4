"""Loaded by every Python process with this folder in PYTHONPATH: notes and refuses who phones home.

Connections to other places than this machine, and look-ups of their names, are written to the file
that VFS_TESTS_PHONED names, one a line.
"""

import ipaddress
import os
import socket
import sys

_LOOK_UP, _CONNECT = socket.getaddrinfo, socket.socket.connect


def _is_here(host):
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback or host == "0.0.0.0"
    except ValueError:
        return False


def _refuse(host):
    with open(os.environ["VFS_TESTS_PHONED"], "a", encoding="utf-8") as file:
        file.write(f"{host} from {' '.join(sys.argv)[:200]}\n")
    raise OSError(f"the tests are offline: {host}")


def _look_up(host, *others, **options):
    if not _is_here(host):
        _refuse(host)
    return _LOOK_UP(host, *others, **options)


def _connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
        _refuse(address[0])
    return _CONNECT(self, address)


socket.getaddrinfo, socket.socket.connect = _look_up, _connect
