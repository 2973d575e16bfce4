"""Searches behind a widget: one at a time on a thread, the newest wins."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from vfs_ops.errors import VfsError
from vfs_ops.scans.hits import Hits
from vfs_ops.scans.run import Partial, SearchRun

_PAUSE: Final = 0.15
"""Least seconds between two partial results that are shown."""


@dataclass(frozen=True)
class Outcome:
    """How a search ended."""

    hits: dict[str, Hits] = field(default_factory=dict)
    """By name of the cache; what there was when it was cancelled."""
    errors: dict[str, Exception] = field(default_factory=dict)
    cancelled: bool = False


class _Ticket:
    """One search; cancelled from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: SearchRun | None = None
        self.cancelled = False

    def cancel(self) -> None:
        with self._lock:
            self.cancelled = True
            if self._run is not None:
                self._run.cancel()

    def take(self, run: SearchRun) -> None:
        with self._lock:
            self._run = run
            if self.cancelled:
                run.cancel()


class Searcher:
    """Runs searches of several caches, one after the other; a newer search cancels the older."""

    def __init__(self) -> None:
        self._ticket = _Ticket()

    def start(
        self,
        begin: Mapping[str, Callable[[], SearchRun]],
        on_partial: Callable[[str, Partial], None],
        on_end: Callable[[Outcome], None],
    ) -> threading.Thread:
        """Begin a search, and return at once.

        Parameters
        ----------
        begin
            Name of a cache → what makes its query and begins to search.
        on_partial
            Told the best hits so far, some times a second, on the search's thread.
        on_end
            Told how it ended, once, on the search's thread.
        """
        self.cancel()
        ticket = self._ticket = _Ticket()
        context = contextvars.copy_context()  # messages then belong to the request's cell
        thread = threading.Thread(
            target=context.run,
            args=(_search, ticket, dict(begin), on_partial, on_end),
            name="vfs-panel",
            daemon=True,
        )
        thread.start()
        return thread

    def cancel(self) -> None:
        """Stop the search that is running, if any, within a shard."""
        self._ticket.cancel()


def _search(
    ticket: _Ticket,
    begin: Mapping[str, Callable[[], SearchRun]],
    on_partial: Callable[[str, Partial], None],
    on_end: Callable[[Outcome], None],
) -> None:
    outcome = Outcome()
    for name, begins in begin.items():
        if ticket.cancelled:
            break
        try:
            hits = _search_one(ticket, begins, lambda part, name=name: on_partial(name, part))  # type: ignore[misc]
        except VfsError as error:
            outcome.errors[name] = error
        except Exception as error:
            outcome.errors[name] = error
            on_end(outcome)
            raise  # into the kernel's log, with its traceback
        else:
            if hits is not None:
                outcome.hits[name] = hits
    on_end(Outcome(outcome.hits, outcome.errors, ticket.cancelled))


def _search_one(
    ticket: _Ticket, begins: Callable[[], SearchRun], on_partial: Callable[[Partial], None]
) -> Hits | None:
    last, shown = None, 0.0
    with begins() as run:
        ticket.take(run)
        for last in run:
            now = time.monotonic()
            if last.done < last.total and now - shown > _PAUSE:
                on_partial(last)
                shown = now
    if last is None:
        return None
    hits = last.hits
    return hits if isinstance(hits, Hits) else None
