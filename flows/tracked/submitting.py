"""Start a deployment at the configured server, and wait for it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, cast
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from flows.jobs.job import Job
from flows.tracked.definitions import FLOWS
from flows.tracked.deployments import NAME
from vfs_ops.errors import NotFoundError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

_SECONDS: Final = 2.0
"""Between two looks at a run."""


@dataclass(frozen=True)
class Submitted:
    """A flow run that a worker takes up."""

    flow_run_id: str
    """Prefect's id of the run."""
    name: str
    """As the server's pages show it."""
    url: str | None
    """The page of the run, if the server has pages."""

    def wait(self, timeout: float | None = None) -> str:
        """Wait until the run has ended.

        Parameters
        ----------
        timeout
            Seconds; without end by default.

        Returns
        -------
        str
            Name of its state, as ``Completed`` or ``Failed``; if time is over, of the present one.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with get_client(sync_client=True) as client:
            while True:
                state = client.read_flow_run(UUID(self.flow_run_id)).state
                if state is not None and state.is_final():
                    return state.name or ""
                if end is not None and time.monotonic() >= end:
                    return (state.name or "") if state is not None else ""
                time.sleep(_SECONDS)


def submit(job: Job, deployment: str = NAME) -> Submitted:
    """Ask the server to run a job's deployment; returns at once.

    Parameters
    ----------
    job
        What to do.
    deployment
        Name of the deployment; `vfs deploy` and `vfs serve` make the default.

    Raises
    ------
    NotFoundError
        If there is no such deployment.
    """
    from prefect.utilities.urls import url_for

    full_name = f"{FLOWS[type(job)].name}/{deployment}"
    try:
        run = cast("FlowRun", run_deployment(full_name, parameters=asdict(job), timeout=0))
    except ObjectNotFound as error:
        raise NotFoundError(
            f"the Prefect server has no deployment {full_name}; `vfs deploy --pool vfs` makes it"
        ) from error
    return Submitted(str(run.id), run.name, url_for(run))
