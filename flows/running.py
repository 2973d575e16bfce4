"""Run a job here and now: as it is, or as a tracked flow run."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any, Final

from flows import servers
from flows.console import say
from flows.jobs.job import Job
from flows.watching import Watcher

_FOR_TRACKED: Final = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # 20 s is too tight on a busy laptop
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # errors are told once, by the caller
}


def run(job: Job, *, track: bool = False, watcher: Watcher | None = None) -> Any:
    """Run a job in this process, and say in one line who tracks it.

    Parameters
    ----------
    job
        What to do.
    track
        True to start an embedded Prefect server where none is configured.
    watcher
        Told of stages, progress and tables.

    Returns
    -------
    object
        What ``job.run`` returns.

    Raises
    ------
    UnavailableError
        If the configured server does not answer.
    VfsError
        What ``job.run`` raises.
    """
    address = servers.configured()
    if address is not None:
        servers.check_answers(address)
        say(f"tracked by the Prefect server at {address}")
        return run_tracked(job, watcher)
    if track:
        say("tracked by an embedded Prefect server, which takes some 20 seconds to start")
        return run_tracked(job, watcher)
    say("untracked: no Prefect server is configured (--track starts one)")
    return job.run(watcher)


def run_tracked(job: Job, watcher: Watcher | None = None) -> Any:
    """Run a job as a flow run of this process; see `run`."""
    for name, value in _FOR_TRACKED.items():
        os.environ.setdefault(name, value)
    from flows.tracked.definitions import FLOWS, told_to

    with told_to(watcher or Watcher()):
        return FLOWS[type(job)](**asdict(job))
