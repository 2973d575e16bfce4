"""Deployments of the flows: what a server starts on a schedule or when somebody asks for it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, get_type_hints

from prefect import serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType
from pydantic import TypeAdapter, ValidationError

from flows.jobs.job import Job
from flows.privacy import VARIABLES
from flows.tracked.definitions import FLOWS
from vfs_ops.errors import InputError, NotFoundError

NAME: Final = "vfs"
"""Of deployments that have no schedule."""
_JOBS: Final = {flow.name: job_type for job_type, flow in FLOWS.items()}


@dataclass(frozen=True)
class Deployment:
    """One flow, what it is run with, and when."""

    flow: str
    """Name of the flow, as ``build_caches``."""
    name: str = NAME
    """Of the deployment."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON values; those of a run come over them."""
    cron: str | None = None
    """When it runs by itself, as ``0 3 * * *``."""
    timezone: str | None = None
    """Of the cron schedule, as ``Europe/Berlin``; UTC by default."""


def read_parameter(flow: str, text: str) -> tuple[str, Any]:
    """Read one ``PARAMETER=VALUE`` of a command line.

    Returns
    -------
    name, value
        The value is what its JSON says where the parameter can be that, else the text itself: so
        ``sample=8`` is a number, and ``dataset=2024`` a name.

    Raises
    ------
    InputError
        If it is malformed, or the flow has no such parameter.
    NotFoundError
        If there is no such flow.

    Examples
    --------
    >>> read_parameter("verify_cache", "sample=8"), read_parameter("verify_cache", "cache=8")
    (('sample', 8), ('cache', '8'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--set {text[:80]!r} is no PARAMETER=VALUE, as dataset=photos")
    wanted = _type_of(flow, name)
    try:
        wanted.validate_json(value)
        return name, json.loads(value)
    except ValueError:
        return name, value


def all_flows(parameters: Mapping[str, Any]) -> list[Deployment]:
    """Return a deployment of each flow, without a schedule."""
    return [Deployment(name, parameters=parameters) for name in _JOBS]


def deploy(deployments: Sequence[Deployment], pool: str) -> list[str]:
    """Make deployments at the configured server, for the workers of a work pool.

    Parameters
    ----------
    deployments
        One of the same flow and name is replaced.
    pool
        Name of the work pool; one of processes is made if there is none.

    Returns
    -------
    list of str
        ``flow/name`` of each.

    Raises
    ------
    InputError
        If a flow, parameter or schedule is not one.
    """
    made = [_made(deployment, pool) for deployment in deployments]
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            with contextlib.suppress(ObjectAlreadyExists):  # somebody was faster
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    for one in made:
        one.apply()
    return [one.full_name for one in made]


def serve_here(deployments: Sequence[Deployment], limit: int | None) -> None:
    """Make deployments, and run in processes of this machine what is due, until interrupted.

    Parameters
    ----------
    deployments
        One of the same flow and name is replaced.
    limit
        Runs at the same time.

    Raises
    ------
    InputError
        If a flow, parameter or schedule is not one.
    """
    serve(*(_made(deployment) for deployment in deployments), limit=limit)


def _made(deployment: Deployment, pool: str | None = None) -> RunnerDeployment:
    job_type = _job_type(deployment.flow)
    flow = FLOWS[job_type]
    for name, value in deployment.parameters.items():
        try:
            _type_of(flow.name, name).validate_python(value)
        except ValidationError as error:
            raise InputError(
                f"parameter {name} of {flow.name} is {str(value)[:80]!r}: {_first_line(error)}"
            ) from error
    schedule = None
    try:
        if deployment.cron is not None:
            TypeAdapter(job_type).validate_python(dict(deployment.parameters))
            schedule = Cron(deployment.cron, timezone=deployment.timezone)
        return RunnerDeployment.from_flow(
            flow,
            deployment.name,
            parameters=dict(deployment.parameters),
            schedule=schedule,
            work_pool_name=pool,
            job_variables=None if pool is None else {"env": VARIABLES},
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    except ValueError as error:
        raise InputError(f"{flow.name} cannot be scheduled so: {_first_line(error)}") from error


def _job_type(flow: str) -> type[Job]:
    if flow not in _JOBS:
        raise NotFoundError(f"there is no flow {flow[:80]!r}; there are {', '.join(_JOBS)}")
    return _JOBS[flow]


def _type_of(flow: str, parameter: str) -> TypeAdapter[Any]:
    known = get_type_hints(_job_type(flow))
    names = [each.name for each in fields(_job_type(flow))]
    if parameter not in names:
        raise InputError(f"{flow} has no parameter {parameter[:80]!r}; it has {', '.join(names)}")
    return TypeAdapter(known[parameter])


def _first_line(error: ValueError) -> str:
    """Say in a line what is wrong; a validation error says it over several."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else first["msg"]
    return str(error).split("\n")[0]
