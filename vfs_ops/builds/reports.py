"""What a build tells of every shard that it finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Action = Literal["computed", "copied", "repaired"]


@dataclass(frozen=True)
class ShardReport:
    """One shard that a build finished."""

    cache: str
    """Cache id."""
    layer: str
    """Layer of the extractor."""
    shard: int
    images: int
    """Rows of the shard."""
    bytes: int
    """Size of its features on the store."""
    seconds: float
    """From the first image read, or the copy's start, to the last byte written."""
    host: str
    """Machine that made it."""
    worker: str
    """Dask's name of the worker; empty for a build in this process."""
    action: Action
    """Copied from an earlier cache that holds the same, or computed; repaired if something damaged
    was in its place."""

    def document(self) -> dict[str, Any]:
        """Return it as plain values, for a table."""
        return dict(vars(self))


ShardCallback = Callable[[ShardReport], None]
NoticeCallback = Callable[[str], None]
"""Told in one sentence what a person should know: who else builds, what was repaired or retried."""


def no_shards(report: ShardReport) -> None:
    """Tell nobody."""


def no_notices(notice: str) -> None:
    """Tell nobody."""
