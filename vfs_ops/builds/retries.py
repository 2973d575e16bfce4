"""Trying again what may pass: a storage or network that does not answer for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from vfs_ops.errors import UnavailableError

T = TypeVar("T")

PAUSES: Final = (1.0, 4.0, 15.0, 60.0)
"""Seconds before each further attempt, where nothing was achieved in between."""


def persist(
    work: Callable[[], T],
    *,
    achieved: Callable[[], int] = int,
    on_notice: Callable[[str], None],
    pause: Callable[[float], None] = time.sleep,
) -> T:
    """Call something until it succeeds, after failures of storage or network alone.

    Parameters
    ----------
    work
        Goes on where it stopped, when it is called again.
    achieved
        Returns a number that grows with what is done; an attempt that did something starts the
        pauses anew. By default none does.
    on_notice
        Told of each failure that is tried again.
    pause
        Waits some seconds.

    Returns
    -------
    T
        What `work` returned when it succeeded.

    Raises
    ------
    UnavailableError
        If attempts fail after all pauses in turn. Every other error is raised at once.
    """
    failures, before = 0, achieved()
    while True:
        try:
            return work()
        except UnavailableError as error:
            if achieved() > before:
                failures, before = 0, achieved()
            if failures == len(PAUSES):
                raise
            on_notice(f"{error}; tried again in {PAUSES[failures]:g} s")
            pause(PAUSES[failures])
            failures += 1
