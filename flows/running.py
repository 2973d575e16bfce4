"""Run a job here and now: as it is, or as a tracked flow run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from flows import servers
from flows.console import say
from flows.jobs.job import Job
from flows.privacy import keep_private
from flows.watching import Watcher
from vfs_ops.errors import UnavailableError

Run = Callable[..., Any]
"""Runs a job: takes it and its watcher, and returns what the job returns."""

_RETRIES: Final = 2
"""Of a request to the embedded server, after 2 and 4 seconds. On this machine it answers or is
gone, and nobody shall wait minutes for it when a run is interrupted."""
_FOR_TRACKED: Final = {  # errors are told once, by the caller
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
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
    """Run a job as a flow run of this process; see `run`.

    A server that is lost meanwhile does not stop the work.
    """
    _prepare()
    from httpx import HTTPError

    from flows.tracked.definitions import FLOWS, told_to

    with told_to(watcher or Watcher()) as told:
        try:
            return FLOWS[type(job)](**asdict(job))
        except HTTPError as error:  # no answer, or one as 502 of what stands before the server
            if told.done:
                say("the Prefect server does not answer any more: it shows this run as unfinished")
                return told.result
            if told.failure is not None:
                raise told.failure from None  # of the work, which may ask servers of its own
            raise UnavailableError(
                "the Prefect server that tracks this run does not answer any more "
                f"({str(error)[:200]}); run the same command again to go on"
            ) from error


def _run_untracked(job: Job, watcher: Watcher | None = None) -> Any:
    return job.run(watcher)


def _embedded() -> Run:
    from flows.embedded_server import EmbeddedServer

    server = EmbeddedServer()

    def run_when_started(job: Job, watcher: Watcher | None = None) -> Any:
        _prepare()
        from prefect.settings import (  # takes seconds, while the server starts
            PREFECT_API_URL,
            PREFECT_CLIENT_MAX_RETRIES,
            temporary_settings,
        )

        told = {PREFECT_API_URL: server.address(), PREFECT_CLIENT_MAX_RETRIES: _RETRIES}
        with temporary_settings(told):
            return run_tracked(job, watcher)

    return run_when_started


def _prepare() -> None:
    """Say what Prefect reads when it is imported."""
    keep_private()
    for name, value in _FOR_TRACKED.items():
        os.environ.setdefault(name, value)
    logging.raiseExceptions = False  # what cannot be logged to a server is not told on the terminal
