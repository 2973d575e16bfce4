"""What the command line says: results to standard output, all else to standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from flows.patience import heard
from vfs_ops.progress import Progress, ProgressCallback
from vfs_ops.sizes import size as size  # said beside the rest

_SECONDS_BEFORE_LINES = 2.0
_SECONDS_BETWEEN_LINES = 5.0


def say(text: str) -> None:
    """Write a remark for the person who waits."""
    heard()
    click.echo("\n".join(printable(line) for line in text.split("\n")), err=True)


def write_json(value: object) -> None:
    """Write a result for a script; what is not printable is escaped, as JSON allows."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def write_table(rows: Sequence[Mapping[str, object]], right: Sequence[str] = ()) -> None:
    """Write rows as an aligned table.

    Parameters
    ----------
    rows
        All with the same keys, which become the headings.
    right
        Headings of columns that are aligned to the right.
    """
    if not rows:
        return
    headings = list(rows[0])
    cells = [headings, *([printable(row[heading]) for heading in headings] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(headings))]
    for line in cells:
        padded = [
            cell.rjust(width) if heading in right else cell.ljust(width)
            for heading, cell, width in zip(headings, line, widths, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def counted(count: int, noun: str) -> str:
    """Write a number of things.

    Examples
    --------
    >>> counted(1, "shard"), counted(1200, "image")
    ('1 shard', '1200 images')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@contextmanager
def progress_shown() -> Iterator[ProgressCallback]:
    """Show progress with rate and remaining time: a bar in a terminal, else lines if it lasts."""
    if sys.stderr.isatty():
        with _bars() as callback:
            yield callback
    else:
        yield _Lines(time.monotonic)


@contextmanager
def _bars() -> Iterator[ProgressCallback]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}, {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, tuple[Any, _Rate]] = {}

        def show(progress: Progress) -> None:
            if progress.stage not in tasks:
                task = bars.add_task(progress.stage, unit=progress.unit, rate="")
                tasks[progress.stage] = task, _Rate(progress.done, time.monotonic())
            task, rate = tasks[progress.stage]
            shown = f"{rate.per_second(progress.done, time.monotonic()):.1f}/s"
            heard()
            bars.update(task, completed=progress.done, total=progress.total, rate=shown)

        yield show


class _Rate:
    """Units a second since the first report; what was done before is not counted."""

    def __init__(self, done: int, now: float) -> None:
        self.first, self.started = done, now

    def per_second(self, done: int, now: float) -> float:
        return (done - self.first) / max(now - self.started, 1e-3)


class _Lines:
    """Writes a line every few seconds for a stage that lasts, and one when it is done."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.stages: dict[str, tuple[_Rate, float]] = {}
        """Of each stage: its rate, and the time from which on the next line is due."""

    def __call__(self, progress: Progress) -> None:
        now = self.clock()
        if progress.stage not in self.stages:
            first = _Rate(progress.done, now)
            self.stages[progress.stage] = first, now + _SECONDS_BEFORE_LINES
        rate, due = self.stages[progress.stage]
        finished = progress.done == progress.total
        lasted = now >= rate.started + _SECONDS_BEFORE_LINES
        if not lasted or (now < due and not finished):
            return
        self.stages[progress.stage] = rate, now + _SECONDS_BETWEEN_LINES
        speed = rate.per_second(progress.done, now)
        line = f"{progress.stage}: {progress.done}"
        if progress.total is not None:
            line += f" of {progress.total}"
        line += f" {progress.unit}"
        if speed > 0:
            line += f", {speed:.1f}/s"
            if progress.total is not None and not finished:
                line += f", {(progress.total - progress.done) / speed:.0f} s left"
        say(line)


def shortened(value: object, width: int = 60) -> str:
    """Return text for a cell of a table; what is longer ends with an ellipsis.

    Examples
    --------
    >>> shortened("interpretability", 8)
    'interpr…'
    """
    text = printable(value)
    return text if len(text) <= width else text[: width - 1] + "…"


def printable(value: object) -> str:
    """Return text that cannot move the cursor or recolour the terminal."""
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
