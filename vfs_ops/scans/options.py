"""Checks of options that several kinds of search take."""

from __future__ import annotations

import numpy as np

from vfs_ops.errors import QueryError


def check_whole(name: str, value: int, least: int = 1) -> int:
    """Refuse what is no whole number from `least` up.

    Raises
    ------
    QueryError
        If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise QueryError(f"{name} is {value!r}; expected a whole number from {least} up")
    return int(value)
