"""A command ends soon after Ctrl-C or SIGTERM, and after its last word, whatever still waits.

Libraries finish what they began when a process ends: connections are tried again, queues are sent.
Whoever interrupts a command does not wait for that. Nothing is lost by an end at once: what is
written is whole or not there, so the same command goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any, Final

from flows.console import say

CODE: Final = 130
"""Exit code of a command that was interrupted."""
SECONDS: Final = 10.0
"""Time to close what is open, and to tell a server."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR: Final = "\x1b[?25h"  # a progress bar hides it

_heard = threading.Event()
_said = threading.Lock()


def end_promptly() -> None:
    """Let Ctrl-C and SIGTERM end this process within `SECONDS`, and a Ctrl-C after that at once.

    The first raises KeyboardInterrupt in the main thread. A thread keeps the time: it hears of
    signals from the system, wherever the main thread is, and whoever handles them meanwhile.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as below nohup
            signal.signal(number, _interrupt_once)
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told)
    threading.Thread(target=_keep_time, args=(heard,), name="vfs-signals", daemon=True).start()


def take_time() -> None:
    """Let this process end by itself after a signal: it has others to end."""
    signal.set_wakeup_fd(-1)
    if signal.getsignal(signal.SIGINT) is _interrupt_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) is _interrupt_once:
        signal.signal(signal.SIGTERM, _interrupt)


def interrupt_on_sigterm() -> None:
    """End as Ctrl-C does, with everything closed, when the system asks for an end."""
    with contextlib.suppress(ValueError):  # in another thread than the main one
        signal.signal(signal.SIGTERM, _interrupt)


def was_heard() -> bool:
    """Tell if this process was asked to end; errors after that are those of ending."""
    return _heard.is_set()


def finish(code: int) -> None:
    """End this process within `SECONDS`, at once if it is interrupted: its work is done.

    Parameters
    ----------
    code
        Its exit code.
    """
    signal.set_wakeup_fd(-1)
    if code == CODE:
        _say_interrupted()
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: _end(code))
    _end_later(code)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _interrupt_once(*_: Any) -> None:
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)  # the thread hears the next
    raise KeyboardInterrupt


def _keep_time(heard: int) -> None:
    while os.read(heard, 1)[0] not in _SIGNALS:
        pass
    _heard.set()
    _end_later(CODE)
    while os.read(heard, 1)[0] != signal.SIGINT:
        pass  # SIGTERM may be the first one: Prefect sends it on to its own process
    _end(CODE)


def _end_later(code: int) -> None:
    timer = threading.Timer(SECONDS, _end, (code,))
    timer.daemon = True
    timer.start()


def _end(code: int) -> None:
    try:
        if code == CODE:
            _say_interrupted()
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr.isatty():
                sys.stderr.write(_SHOW_CURSOR)
            sys.stdout.flush()
            sys.stderr.flush()
    finally:  # a handler may interrupt a write, which then refuses another
        os._exit(code)


def _say_interrupted() -> None:
    if _said.acquire(blocking=False):
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            say("interrupted; run the same command again to go on")
