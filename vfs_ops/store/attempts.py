"""Asking again what may pass: no answer, an answer that broke off, a server that is overloaded."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from vfs_ops.errors import UnavailableError
from vfs_ops.store import traffic
from vfs_ops.store.failures import storage_errors

ATTEMPTS: Final = 6
"""How often a request is sent at most."""
FIRST_PAUSE = 0.25
"""Seconds before the second attempt, doubled for each one more: 8 seconds in all."""

T = TypeVar("T")


def persistently(what: str, ask: Callable[[], T]) -> T:
    """Return what `ask` returns, asking again while the storage is unavailable.

    Parameters
    ----------
    what
        What is asked for, for messages.
    ask
        Sends one request; may be called `ATTEMPTS` times.

    Raises
    ------
    UnavailableError
        If the storage was unavailable every time.
    NotFoundError, AccessError, StorageFullError, StorageError
        At once, since these do not pass by themselves.
    """
    attempt = 1
    while True:
        try:
            traffic.count(requests=1)
            with storage_errors(what):
                return ask()
        except UnavailableError as error:
            if attempt == ATTEMPTS:
                raise UnavailableError(f"{error} (asked {ATTEMPTS} times)") from error.__cause__
        # spread, so that many workers do not come back at the same time
        time.sleep(FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311
        attempt += 1
