"""Start a deployment at the configured server, and wait for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from httpx import HTTPError, HTTPStatusError
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from flows.jobs.job import Job
from flows.tracked.definitions import FLOWS
from flows.tracked.deployments import NAME
from vfs_ops.errors import AccessError, MismatchError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

_SECONDS: Final = 2.0
"""Between two looks at a run."""
_TO_BEGIN: Final = timedelta(minutes=10)
"""A run that has started may take so long until its work can be seen."""


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
            Type of its state, as ``Completed`` or ``Failed``, whatever its name; if time is over,
            of the present one.

        Raises
        ------
        UnavailableError
            If the server does not answer; the run goes on, wait again.
        NotFoundError
            If somebody has deleted the run.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with _as_ours(f"flow run {self.name} goes on without it; wait again"):
            try:
                return self._wait(end)
            except ObjectNotFound as error:
                raise NotFoundError(
                    f"the Prefect server does not know flow run {self.name} any more: somebody has "
                    "deleted it; ask again to go on"
                ) from error

    def _wait(self, end: float | None) -> str:
        with get_client(sync_client=True) as client:
            while True:
                state = client.read_flow_run(UUID(self.flow_run_id)).state
                if state is not None and state.is_final():
                    return state.type.value.title()
                if end is not None and time.monotonic() >= end:
                    return state.type.value.title() if state is not None else ""
                time.sleep(_SECONDS)


@dataclass(frozen=True)
class Question:
    """What a run is to answer: who asks the same meanwhile gets the same run."""

    digest: str
    """Equal if the same is asked."""
    at_work: Callable[[], bool]
    """Tells whether somebody is seen at work on it. A run that nobody is at, though the server
    says that it runs, has lost its worker, and another one is started."""


def submit(
    job: Job,
    deployment: str = NAME,
    *,
    leave: Collection[str] = (),
    question: Question | None = None,
) -> Submitted:
    """Ask the server to run a job's deployment; returns at once.

    Parameters
    ----------
    job
        What to do.
    deployment
        Name of the deployment; `vfs deploy` and `vfs serve` make the default.
    leave
        Fields of the job that are left to the deployment's own parameters where the job has their
        defaults.
    question
        If given, a run that was started for the same and has not ended is taken. Once it has, the
        next one who asks starts another, and of several who ask at once one does.

    Raises
    ------
    NotFoundError
        If there is no such deployment.
    UnavailableError
        If the server does not answer.
    AccessError, MismatchError
        If the server refuses.
    """
    from prefect.utilities.urls import url_for

    full_name = f"{FLOWS[type(job)].name}/{deployment}"
    with _as_ours("run again"):
        known: dict[str, Any] = {}
        if question is not None:
            last = _last_run(question)
            if last is not None and _goes_on(last, question):
                return Submitted(str(last.id), last.name, url_for(last))
            after = "" if last is None else str(last.id)
            known = {
                "tags": [_tag(question)],
                "idempotency_key": f"{full_name} {question.digest} {after}",
            }
        try:
            run = cast(
                "FlowRun",
                run_deployment(full_name, parameters=_parameters(job, leave), timeout=0, **known),
            )
        except ObjectNotFound as error:
            raise NotFoundError(
                f"the Prefect server has no deployment {full_name}; `vfs deploy --pool vfs` makes "
                "it"
            ) from error
    return Submitted(str(run.id), run.name, url_for(run))


def _parameters(job: Job, leave: Collection[str]) -> dict[str, Any]:
    defaults = {each.name: each.default for each in fields(job)}
    return {
        name: value
        for name, value in asdict(job).items()
        if name not in leave or value != defaults[name]
    }


def _last_run(question: Question) -> FlowRun | None:
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[_tag(question)])),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=1,
        )
    return runs[0] if runs else None


def _tag(question: Question) -> str:
    return f"asked-{question.digest[:32]}"


def _goes_on(run: FlowRun, question: Question) -> bool:
    """Tell whether a run has not ended, nor lost its worker as far as can be seen."""
    if run.state is None or run.state.is_final():
        return False
    if not run.state.is_running() or run.start_time is None:
        return True
    return datetime.now(UTC) - run.start_time < _TO_BEGIN or question.at_work()


@contextlib.contextmanager
def _as_ours(then: str) -> Iterator[None]:
    """Raise what the server's client raises as errors of the one tree."""
    try:
        yield
    except HTTPStatusError as error:
        status, said = error.response.status_code, error.response.text[:200]
        if status in (401, 403):
            raise AccessError(
                f"the Prefect server refuses access (status {status}); set PREFECT_API_KEY or "
                "PREFECT_API_AUTH_STRING and run again"
            ) from error
        if status < 500 and status not in (408, 429):
            raise MismatchError(
                f"the Prefect server refuses the run (status {status}: {said}); it may be of "
                "another version: `vfs deploy` again"
            ) from error
        raise UnavailableError(
            f"the Prefect server answers with status {status}; {then}"
        ) from error
    except HTTPError as error:
        raise UnavailableError(
            f"the Prefect server does not answer ({str(error)[:200]}); {then}"
        ) from error
