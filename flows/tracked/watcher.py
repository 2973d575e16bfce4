"""The watcher that turns stages into Prefect tasks, and what they show into artifacts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final

from httpx import HTTPError, HTTPStatusError
from prefect import Task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows.patience import doing
from flows.tracked import retries
from flows.tracked.markup import artifact_key, code_markdown, escaped, picture_markdown
from flows.watching import Code, Picture, Result, Table, Watcher
from vfs_ops.errors import VfsError
from vfs_ops.progress import Progress, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

SECONDS_BETWEEN_UPDATES: Final = 2.0
"""A progress artifact is a request to the server, and shards may come by the hundred a second."""
SECONDS_WITHOUT_SERVER: Final = 60.0
"""Nothing is shown for so long after a server did not take it, since its client waits each time."""
NOT_FOUND: Final = 404


class TrackedWatcher(Watcher):
    """Runs stages as tasks, which are tried again where their failure can pass; shows artifacts.

    Parameters
    ----------
    also
        Told of everything too: the terminal, if there is one.

    Notes
    -----
    A server that does not answer, or refuses, misses artifacts; the work goes on.
    """

    failure: BaseException | None = None
    """What the work of the latest stage failed with, whatever the server was told."""

    def __init__(self, also: Watcher) -> None:
        self._also = also
        self._silent_until = 0.0
        self._told = False
        self._bars: dict[str, _Bar] = {}
        self._lock = threading.Lock()
        self._context: Context | None = None
        self._timed = timed(self._show)

    @property
    def flow_run(self) -> str | None:
        """Prefect's id of the current flow run."""
        found = flow_run.get_id()
        return None if found is None else str(found)

    def stage(self, name: str, work: Callable[[], Result]) -> Result:
        """Run the stage as a task of the current flow run."""

        def body() -> Result:
            with doing(name), self._stage_begins():
                self.failure = None
                try:
                    return work()
                except BaseException as error:
                    self.failure = error
                    raise

        task: Task[[], Result] = Task(
            body,
            name=name,
            cache_policy=NO_CACHE,
            retries=len(retries.DELAYS),
            retry_delay_seconds=list(retries.DELAYS),
            retry_jitter_factor=retries.JITTER,
            retry_condition_fn=retries.can_pass,
        )
        return task()

    def progress(self, progress: Progress) -> None:
        """Move the bar on the server, every few seconds at most."""
        self._also.progress(progress)
        with self._lock:
            if self._context is not None:
                self._timed(progress)

    def note(self, text: str) -> None:
        """Write the sentence into the log of the run."""
        self._also.note(text)
        get_run_logger().info("%s", text)

    def table(self, table: Table) -> None:
        """Leave the table as an artifact."""
        self._also.table(table)
        rows = [{key: _cell(value) for key, value in row.items()} for row in table.rows]
        key, title = artifact_key(table.key), escaped(table.title)
        self._send(lambda: create_table_artifact(table=rows, key=key, description=title))
        get_run_logger().info("%s", table.title)

    def code(self, code: Code) -> None:
        """Leave the lines as an artifact."""
        self._also.code(code)
        text, key = code_markdown(code.title, code.lines), artifact_key(code.key)
        self._send(lambda: create_markdown_artifact(text, key=key))

    def picture(self, draw: Callable[[], Picture | None]) -> None:
        """Draw the picture and leave it as an artifact; one that cannot be drawn is left out."""
        try:
            picture = draw()
        except (VfsError, OSError, ValueError) as error:  # of storage, disk, Pillow or matplotlib
            self.note(f"a picture was left out: {error}")
            return
        if picture is not None:
            text, key = picture_markdown(picture.title, picture.png), artifact_key(picture.key)
            self._send(lambda: create_markdown_artifact(text, key=key))

    def _send(self, artifact: Callable[[], object]) -> None:
        if time.monotonic() < self._silent_until:
            return
        try:
            artifact()
        except (HTTPError, PrefectException) as error:
            self._silent_until = time.monotonic() + SECONDS_WITHOUT_SERVER
            if not self._told:
                self._told = True
                self._also.note(f"the Prefect server {_refusal(error)}; the work goes on")

    @contextmanager
    def _stage_begins(self) -> Iterator[None]:
        """Remember the context of the task, since progress may come from other threads."""
        with self._lock:
            self._bars, self._timed = {}, timed(self._show)
            self._context = copy_context()
        try:
            yield
        finally:
            with self._lock:
                self._context = None

    def _show(self, progress: Progress) -> None:
        if self._context is None or not progress.total:
            return
        bar = self._bars.setdefault(progress.stage, _Bar())
        now = time.monotonic()
        if now < bar.due and progress.done < progress.total:
            return
        bar.due = now + SECONDS_BETWEEN_UPDATES
        self._context.run(self._send, lambda: bar.show(progress))


class _Bar:
    """One progress artifact."""

    def __init__(self) -> None:
        self.due = 0.0
        """When the next update may be sent."""
        self._id: UUID | None = None
        self._deleted = False

    def show(self, progress: Progress) -> None:
        total = progress.total or 1
        percent, text = 100 * progress.done / total, _sentence(progress)
        if self._id is None:
            self._id = create_progress_artifact(percent, description=text)  # type: ignore[assignment]
        elif not self._deleted:
            try:
                update_progress_artifact(self._id, percent, description=text)
            except HTTPStatusError as error:
                self._deleted = error.response.status_code == NOT_FOUND
                if not self._deleted:
                    raise


def _refusal(error: Exception) -> str:
    if isinstance(error, HTTPStatusError):
        return f"does not take what this run shows ({error.response.status_code})"
    return "does not answer"


def _sentence(progress: Progress) -> str:
    text = f"{progress.stage}: {progress.done} of {progress.total} {progress.unit}"
    if progress.seconds_left:
        text += f", about {progress.seconds_left:.0f} s left"
    return escaped(text)


def _cell(value: Any) -> str | int | float | None:
    return escaped(value) if isinstance(value, str) else value
