"""Nobody waits without a word: what takes long and has no progress is named on the terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

SECONDS: Final = 1.5
"""Of silence, after which the terminal is told what is being done."""


@dataclass
class _Activity:
    what: str
    since: float
    """When it began, or went on."""
    told: bool = False


_activities: list[_Activity] = []
"""The outermost first; the last one is what is being done."""
_changed = threading.Condition()
_heard = 0.0


def heard() -> None:
    """Note that the person who waits has just been shown something."""
    global _heard
    _heard = time.monotonic()


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say what is done in the block, once, if nothing is shown for a while; see `patience`.

    Parameters
    ----------
    what
        As ``"loading efficientnet-lite0"``; may contain names that others chose.
    """
    activity = _Activity(what, time.monotonic())
    with _changed:
        _activities.append(activity)
        _changed.notify_all()
    try:
        yield
    finally:
        with _changed:
            _activities.remove(activity)
            if _activities:
                _activities[-1].since = time.monotonic()
            _changed.notify_all()


@contextmanager
def patience(say: Callable[[str], None], seconds: float = SECONDS) -> Iterator[None]:
    """Let whoever waits be told what is being done, while the block lasts.

    Parameters
    ----------
    say
        Writes a line.
    seconds
        Of silence, before something is said.
    """
    over = False

    def watch() -> None:
        with _changed:
            while not over:
                activity = _activities[-1] if _activities else None
                if activity is None or activity.told:
                    _changed.wait()
                    continue
                left = max(activity.since, _heard) + seconds - time.monotonic()
                if left > 0:
                    _changed.wait(left)
                else:
                    activity.told = True
                    say(f"{activity.what} …")

    thread = threading.Thread(target=watch, name="patience", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with _changed:
            over = True
            _changed.notify_all()
        thread.join()
