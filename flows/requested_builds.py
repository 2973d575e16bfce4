"""Builds that somebody asked for: by a thread of this process, or by a deployment."""

from __future__ import annotations

import hashlib
import threading
from typing import Final, Protocol

from flows import servers
from flows.jobs.building import BuildJob
from flows.watching import Watcher
from vfs_ops.errors import IncompleteError
from vfs_ops.identity.canonical import canonical_json
from vfs_ops.progress import Progress
from vfs_ops.sharing.unused import is_claimed
from vfs_ops.store.workspace import Workspace

LEFT_TO_DEPLOYMENT: Final = (
    *("images", "device", "cluster", "workers", "threads"),
    *("quota", "check"),
)
"""Fields of a `BuildJob` that say where and how the work is done, and change nothing of what is
made."""

_FAILED: Final = ("Failed", "Crashed", "Cancelled")
"""Types of the final states of a flow run that made no cache."""


class Work(Protocol):
    """A build that somebody does."""

    @property
    def where(self) -> str:
        """Who does it, in words."""

    def progress(self) -> Progress | None:
        """Return how far it is, if that is known here."""

    def wait(self, timeout: float | None) -> bool:
        """Wait until it has ended; False if time was over first. Raises what it failed with."""


def start(job: BuildJob, cache_id: str) -> Work:
    """Start a build: by the deployment where a Prefect server is configured, else here.

    Who asks for what a thread of this process builds already gets that build.

    Raises
    ------
    UnavailableError, AccessError, NotFoundError, MismatchError
        If the configured server, or its deployment, cannot be used.
    """
    address = servers.configured()
    if address is None:
        return _build_here(job, cache_id)
    servers.check_answers(address)
    return _BuildThere(job, cache_id)


_under_way: Final[dict[tuple[str, BuildJob], _BuildHere]] = {}
_starting: Final = threading.Lock()


def _build_here(job: BuildJob, cache_id: str) -> Work:
    with _starting:
        for key in [key for key, build in _under_way.items() if build.ended()]:
            del _under_way[key]
        if (cache_id, job) not in _under_way:
            _under_way[cache_id, job] = _BuildHere(job)
        return _under_way[cache_id, job]


class _Progress(Watcher):
    """Keeps what a build told last."""

    def __init__(self) -> None:
        self.latest: Progress | None = None

    def progress(self, progress: Progress) -> None:
        self.latest = progress


class _BuildHere:
    """A build by a thread of this process."""

    where = "a thread of this process"

    def __init__(self, job: BuildJob) -> None:
        self._watcher = _Progress()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(job,), name="vfs-build")
        self._thread.daemon = True  # a process that ends does not wait; asking again goes on
        self._thread.start()

    def progress(self) -> Progress | None:
        return self._watcher.latest

    def ended(self) -> bool:
        return not self._thread.is_alive()

    def wait(self, timeout: float | None) -> bool:
        self._thread.join(timeout)
        if not self.ended():
            return False
        if self._error is not None:
            raise self._error
        return True

    def _run(self, job: BuildJob) -> None:
        try:
            job.run(self._watcher)
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            self._error = error


class _BuildThere:
    """A build by the deployment at the configured server."""

    def __init__(self, job: BuildJob, cache_id: str) -> None:
        from flows.tracked.submitting import Question, submit

        asked = {"cache": cache_id, "workspace": job.workspace}
        asked |= {"dataset": job.dataset, "name": job.name or ""}
        question = Question(
            hashlib.sha256(canonical_json(asked)).hexdigest(),
            lambda: is_claimed(Workspace.at(job.workspace), cache_id),
        )
        self._submitted = submit(job, leave=LEFT_TO_DEPLOYMENT, question=question)
        self._completed = False
        self.where = f"flow run {self._submitted.name} ({self._submitted.url})"

    def progress(self) -> Progress | None:
        return None  # the server's pages show it

    def wait(self, timeout: float | None) -> bool:
        state = "Completed" if self._completed else self._submitted.wait(timeout)
        self._completed = state == "Completed"
        if state in _FAILED:
            raise IncompleteError(
                f"{self.where} ended as {state}; its page tells why; ask again to go on"
            )
        return self._completed
