"""Who watches a job: the terminal, Prefect, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from flows.patience import doing
from vfs_ops.progress import Progress

Result = TypeVar("Result")
Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """What a stage found, for a person to read."""

    key: str
    """What it is about, in a word or two; the next table of that key is its newer version."""
    title: str
    """One sentence. It may contain names that others chose."""
    rows: tuple[Mapping[str, Cell], ...]
    """All with the same keys, which are the headings."""


@dataclass(frozen=True)
class Picture:
    """A picture that a stage drew."""

    key: str
    """See `Table.key`."""
    title: str
    """One sentence. It may contain names that others chose."""
    png: bytes
    """The picture."""


@dataclass(frozen=True)
class Code:
    """Lines of Python for a person to copy."""

    key: str
    """See `Table.key`."""
    title: str
    """One sentence. It may contain names that others chose."""
    lines: str
    """The lines."""


class Watcher:
    """Watches a job and shows nothing; those who show something derive from it."""

    @property
    def flow_run(self) -> str | None:
        """Id of the flow run that the job is; None where nobody tracks it."""
        return None

    def stage(self, name: str, work: Callable[[], Result]) -> Result:
        """Do one stage of the job and return what it returns.

        Parameters
        ----------
        name
            A word: ``plan``, ``build``, ``verify``, ``register``.
        work
            May be called again where its failure can pass, so it must be idempotent.
        """
        with doing(name):
            return work()

    def progress(self, progress: Progress) -> None:
        """Be told how far the stage is."""

    def note(self, text: str) -> None:
        """Be told in a sentence what happened."""

    def table(self, table: Table) -> None:
        """Be shown a table."""

    def picture(self, draw: Callable[[], Picture | None]) -> None:
        """Be offered a picture, which is drawn only where somebody looks at it."""

    def code(self, code: Code) -> None:
        """Be shown lines to copy."""
