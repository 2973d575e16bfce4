"""The watcher that a terminal shows: progress and notes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flows.console import progress_shown, say
from flows.watching import Table, Watcher
from vfs_ops.progress import Progress, ProgressCallback


class ConsoleWatcher(Watcher):
    """Shows progress and notes on standard error."""

    def __init__(self, show: ProgressCallback) -> None:
        self._show = show
        self.tables: list[Table] = []
        """What was shown, for the command to say at the end."""

    def progress(self, progress: Progress) -> None:
        """Move the bar."""
        self._show(progress)

    def table(self, table: Table) -> None:
        """Keep the table."""
        self.tables.append(table)

    def note(self, text: str) -> None:
        """Write the sentence."""
        say(text)


@contextmanager
def console_watcher() -> Iterator[ConsoleWatcher]:
    """Give a watcher whose bars end with the block."""
    with progress_shown() as show:
        yield ConsoleWatcher(show)
