"""Memory that is freed and stays with the process, for the next batch of a model to take.

glibc gives large blocks back to the system when they are freed. A model asks for the same blocks
again with each batch, and the system hands each page out anew, filled with zeros: two fifths of the
time of a small convolutional network on the CPU (``python -m benchmarks.build --kept``).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

KEEPING: Final[Mapping[str, str]] = MappingProxyType(
    {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
)
"""Environment of a process that only builds. One arena, since all others trim themselves."""

# glibc's malloc.h
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_MMAP_MAX: Final = -4

_MOST: Final = 2**31 - 1  # that it takes from a program; the environment may say more

_MIB: Final = 2**20
_SETTLED: Final = "MALLOC_MMAP_MAX_" in os.environ  # the allocator looked when the process began

_LOCK: Final = threading.Lock()
_users = 0


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let this process keep what it frees, and give it back at the end of the last such context.

    It helps most in the main thread: other arenas trim themselves. Nothing changes without glibc,
    nor where the environment has settled it, as `KEEPING` does.
    """
    _count(+1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    global _users
    with _LOCK:
        before, _users = _users, _users + change
        libc = _glibc()
        if libc is None or _SETTLED or (before and _users):
            return
        for parameter, value in (_kept() if _users else _usual()).items():
            libc.mallopt(parameter, value)
        if not _users:
            libc.malloc_trim(0)


def _kept() -> dict[int, int]:
    return {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _MOST}


def _usual() -> dict[int, int]:
    """Return what the environment says, or what glibc arrives at as large blocks are freed."""
    trim = os.environ.get("MALLOC_TRIM_THRESHOLD_", "")
    return {
        _M_MMAP_MAX: 65_536,
        _M_MMAP_THRESHOLD: 32 * _MIB,
        _M_TRIM_THRESHOLD: min(int(trim), _MOST) if trim.isdecimal() else 64 * _MIB,
    }


def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
