"""What long work tells whoever waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace


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
    seconds_left: float | None = None
    """Estimate by the pace of this run; None until there is one."""


ProgressCallback = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Tell nobody."""


def timed(
    callback: ProgressCallback, clock: Callable[[], float] = time.monotonic
) -> ProgressCallback:
    """Return a callback that adds an estimate of the seconds left, and passes on.

    What was done when a stage was first heard of, by an earlier run, says nothing of the pace.

    Parameters
    ----------
    callback
        Told of the progress, with `Progress.seconds_left`.
    clock
        Gives seconds from any beginning.
    """
    first: dict[str, tuple[int, float]] = {}

    def tell(progress: Progress) -> None:
        now = clock()
        done, since = first.setdefault(progress.stage, (progress.done, now))
        fresh, seconds = progress.done - done, now - since
        left = None
        if fresh > 0 and progress.total is not None:
            left = seconds * (progress.total - progress.done) / fresh
        callback(replace(progress, seconds_left=left))

    return tell
