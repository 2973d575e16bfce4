"""Run a job here and now: as it is, or as a tracked flow run."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Final

from flows import servers
from flows.console import say
from flows.jobs.job import Job
from flows.watching import Watcher
from vfs_ops.errors import UnavailableError

Run = Callable[..., Any]
"""Runs a job: takes it and its watcher, and returns what the job returns."""

_STARTING_SECONDS: Final = 120  # Prefect's 20 are too tight on a busy laptop
_FOR_TRACKED: Final = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(_STARTING_SECONDS),
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # errors are told once, by the caller
}


def run(job: Job, *, track: bool = False, watcher: Watcher | None = None) -> Any:
    """Run one job in this process; see `runner`.

    Returns
    -------
    object
        What ``job.run`` returns.
    """
    return runner(track=track)(job, watcher)


def runner(*, track: bool = False) -> Run:
    """Choose how jobs are run in this process, and say in one line who tracks them.

    Parameters
    ----------
    track
        True to start an embedded Prefect server where none is configured. It starts at once, beside
        whatever is done before the first job.

    Returns
    -------
    callable
        Takes a job and who is told of its stages, progress and tables; returns what ``job.run``
        returns, and raises what it raises.

    Raises
    ------
    UnavailableError
        If the configured server does not answer.
    """
    address = servers.configured()
    if address is not None:
        servers.check_answers(address)
        say(f"tracked by the Prefect server at {address}")
        return run_tracked
    if track:
        say("tracked by an embedded Prefect server, which takes some 20 seconds to start")
        return _embedded()
    say("untracked: no Prefect server is configured (--track starts one)")
    return _run_untracked


def run_tracked(job: Job, watcher: Watcher | None = None) -> Any:
    """Run a job as a flow run of this process; see `run`."""
    _prepare()
    from flows.tracked.definitions import FLOWS, told_to

    with told_to(watcher or Watcher()):
        return FLOWS[type(job)](**asdict(job))


def _run_untracked(job: Job, watcher: Watcher | None = None) -> Any:
    return job.run(watcher)


def _embedded() -> Run:
    executor = ThreadPoolExecutor(1, thread_name_prefix="prefect-server")
    starting = executor.submit(_start_server)
    executor.shutdown(wait=False)

    def run_when_started(job: Job, watcher: Watcher | None = None) -> Any:
        starting.result()
        return run_tracked(job, watcher)

    return run_when_started


def _start_server() -> None:
    """Start the server that the flows of this process would start themselves; it ends with it."""
    _prepare()
    from prefect.server.api.server import SubprocessASGIServer

    import flows.tracked  # noqa: F401  # before Prefect: it says what that may tell whom

    try:
        SubprocessASGIServer().start(timeout=_STARTING_SECONDS)
    except RuntimeError as error:
        raise UnavailableError(
            f"the embedded Prefect server did not start ({str(error)[:200]}); run without --track"
        ) from error


def _prepare() -> None:
    for name, value in _FOR_TRACKED.items():
        os.environ.setdefault(name, value)
