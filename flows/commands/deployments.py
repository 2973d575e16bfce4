"""`vfs deploy`, `vfs serve`: flows that a Prefect server runs on a schedule or when asked to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flows import interruption, servers
from flows.console import say
from flows.patience import doing
from vfs_ops.errors import InputError, NotFoundError
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from flows.tracked.deployments import Deployment

Command = TypeVar("Command", bound=Callable[..., Any])


def _deployment_options(command: Command) -> Command:
    for decorate in reversed(
        (
            click.argument("flow", required=False),
            click.option("--name", help="Of the deployment.  [default: vfs, or scheduled]"),
            click.option("--cron", help="When FLOW runs by itself, as '0 3 * * *'."),
            click.option("--timezone", help="Of --cron, as Europe/Berlin.  [default: UTC]"),
            click.option(
                "--set",
                "values",
                multiple=True,
                metavar="PARAMETER=VALUE",
                help="What FLOW is run with: text, or JSON; may be repeated.",
            ),
        )
    ):
        command = decorate(command)
    return command


@click.command()
@_deployment_options
@click.option("--pool", required=True, help="Work pool; one of processes is made if there is none.")
@click.pass_obj
def deploy(
    workspace: Workspace,
    flow: str | None,
    name: str | None,
    cron: str | None,
    timezone: str | None,
    values: tuple[str, ...],
    pool: str,
) -> None:
    """Make deployments at the Prefect server, for workers to run.

    Of FLOW (ingest_dataset, build_caches, verify_cache, mirror_cache, search_batch,
    prune_workspace, publish_catalog), or of all of them, each to be run when somebody asks for it.
    Their parameter `workspace` is that of this command.
    """
    _check_server()
    with doing("loading Prefect"):
        from flows.tracked import deployments

        wanted = _wanted(workspace, flow, name, cron, timezone, values)
    with doing("telling the Prefect server"):
        for made in deployments.deploy(wanted, pool):
            say(f"deployed {made}")
    say(f"they run where a worker is: prefect worker start --pool {pool}")


@click.command()
@_deployment_options
@click.option("--limit", type=click.IntRange(min=1), help="Runs at the same time.")
@click.pass_obj
def serve(
    workspace: Workspace,
    flow: str | None,
    name: str | None,
    cron: str | None,
    timezone: str | None,
    values: tuple[str, ...],
    limit: int | None,
) -> None:
    """Make deployments, and run here what is due, until interrupted.

    As `vfs deploy`, without a worker.
    """
    address = _check_server()
    with doing("loading Prefect"):
        from flows.tracked import deployments

        wanted = _wanted(workspace, flow, name, cron, timezone, values)
    say(f"serving {', '.join(one.flow for one in wanted)} for {address}; Ctrl-C ends it")
    interruption.take_time()
    deployments.serve_here(wanted, limit)


def _check_server() -> str:
    address = servers.configured()
    if address is None:
        raise NotFoundError(
            "no Prefect server is configured; start one (`prefect server start`) and name it: "
            "export PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    servers.check_answers(address)
    return address


def _wanted(
    workspace: Workspace,
    flow: str | None,
    name: str | None,
    cron: str | None,
    timezone: str | None,
    values: tuple[str, ...],
) -> list[Deployment]:
    from flows.tracked.deployments import NAME, Deployment, all_flows, read_parameter

    given: dict[str, Any] = {"workspace": workspace.url}
    if flow is None:
        if cron or name or values:
            raise InputError("--cron, --name and --set are for one flow; name it")
        return all_flows(given)
    given |= dict(read_parameter(flow, text) for text in values)
    chosen = name or (NAME if cron is None else "scheduled")
    return [Deployment(flow, chosen, given, cron, timezone)]
