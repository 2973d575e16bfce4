"""What long work tells whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far one stage of a long work is."""

    stage: str
    """What is being done, in a word or two."""
    done: int
    """Units finished so far, those of an earlier run included."""
    total: int | None
    """Units in all; None while it is not known."""
    unit: str
    """What is counted, in the plural: ``images``, ``shards``."""


ProgressCallback = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Tell nobody."""
