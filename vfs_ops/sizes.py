"""Numbers of bytes, as people write and read them."""

from __future__ import annotations

import re
from typing import Final

from vfs_ops.errors import InputError

_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) *([kmgtp]?)(i?)b?", re.IGNORECASE)
_UNITS: Final = " kmgtp"


def parse_size(text: str) -> int:
    """Read a number of bytes.

    Parameters
    ----------
    text
        As ``200GiB`` (times 1024³), ``200 GB`` (times 1000³), ``1.5T`` or ``1000``.

    Raises
    ------
    InputError
        If it is none.

    Examples
    --------
    >>> parse_size("1.5 GiB"), parse_size("2k")
    (1610612736, 2000)
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or (found[3] and not found[2]):
        raise InputError(f"{text[:40]!r} is no size; expected one as 200GiB, 500GB or 1000000")
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** _UNITS.index(found[2].lower() or " "))


def size(count: float) -> str:
    """Write bytes as a person reads them.

    Examples
    --------
    >>> size(1_568_000_000)
    '1.6 GB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
