"""The command `vfs`. Commands import heavy modules when they run, so that help is instant."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import click

from flows import interruption
from flows.commands.batch_search import search_batch
from flows.commands.build import build, layers
from flows.commands.catalog import ls, show
from flows.commands.demo import demo
from flows.commands.deployments import deploy, serve
from flows.commands.importing import import_cache
from flows.commands.ingest import ingest
from flows.commands.options import DEFAULT_WORKSPACE
from flows.commands.search import search
from flows.commands.sharing import alias, deprecate, describe, find, publish
from flows.commands.upkeep import mirror, prune
from flows.commands.verification import verify
from flows.console import say
from flows.patience import doing, patience
from vfs_ops import errors
from vfs_ops.store.workspace import Workspace

_EXIT_CODES: tuple[tuple[type[errors.VfsError], int], ...] = (
    (errors.InputError, 2),
    (errors.NotFoundError, 3),
    (errors.MismatchError, 4),
    (errors.IncompleteError, 4),
    (errors.NewerFormatError, 5),
    (errors.DamagedError, 5),
    (errors.StorageError, 6),
    (errors.MissingDependencyError, 7),
    (errors.ClusterError, 8),
)

_TRACEBACK = "VFS_TRACEBACK"
_WITHOUT_WORKSPACE = ("layers", "deploy", "serve")
"""Commands that do not begin with the workspace."""

_EPILOG = """Exit codes: 0 done, 2 something given cannot be used, 3 not found, 4 does not match or
is not finished, 5 damaged or too new, 6 the storage failed, 7 a package is missing, 8
the cluster was lost, 130 interrupted."""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-w",
    "--workspace",
    envvar="VFS_WORKSPACE",
    default=DEFAULT_WORKSPACE,
    show_default=True,
    show_envvar=True,
    help="Folder or URL that holds datasets, caches and the catalog.",
)
@click.option(
    "--traceback",
    is_flag=True,
    envvar=_TRACEBACK,
    show_envvar=True,
    expose_value=False,  # `main` reads it, wherever it stands
    help="Show the Python traceback of an error; may also stand last.",
)
@click.version_option(package_name="visual-feature-search", prog_name="vfs")
@click.pass_context
def cli(context: click.Context, workspace: str) -> None:
    """Find the image regions that a vision model considers similar.

    Start with `vfs demo`. With your own photos: `vfs ingest`, `vfs build`, `vfs search`.
    """
    context.obj = Workspace.at(workspace)
    if context.invoked_subcommand not in _WITHOUT_WORKSPACE:
        context.with_resource(doing(f"working in {context.obj.url}"))


for command in (
    *(demo, ingest, layers, build, ls, show, search, search_batch, verify, prune),
    *(mirror, deploy, serve, find, describe, alias, deprecate, publish, import_cache),
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors become one line and an exit code.

    Parameters
    ----------
    arguments
        Those of this process by default; the process is then the command's, and ends with it.
    """
    if arguments is not None:
        interruption.interrupt_on_sigterm()
        sys.exit(_run(arguments))
    interruption.end_promptly()
    try:
        with patience(say):
            code = _run(sys.argv[1:])
        interruption.finish(code)
    except KeyboardInterrupt:  # between the two
        code = interruption.CODE
        interruption.finish(code)
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    from_user, traceback_wanted = _split(arguments)
    # Images beyond the limit are refused with their name; Pillow's own remark would come twice.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    warnings.showwarning = _say_warning
    try:
        outcome: Any = cli.main(from_user, prog_name="vfs", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except click.ClickException as error:
        if from_user:
            say(f"error: {_what_is_wrong(error)}")
        else:  # the help, for who gave nothing
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return interruption.CODE
    except errors.VfsError as error:
        if interruption.was_heard():
            return interruption.CODE
        if traceback_wanted:
            say("".join(traceback.format_exception(error)).rstrip())
        else:
            say(f"error: {error}")
        return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)
    except Exception:
        if interruption.was_heard():  # what a library raises while it is ended
            return interruption.CODE
        raise


def _what_is_wrong(error: click.ClickException) -> str:
    """Return in one line what click has to say of the arguments."""
    text = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.NoSuchOption) and error.option_name in ("-w", "--workspace"):
        return f"{text}: it stands before the command, as in `vfs -w FOLDER ls`"
    context = error.ctx if isinstance(error, click.UsageError) else None
    program = "vfs" if context is None else context.command_path
    return f"{text}; `{program} --help` says what is expected"


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Write a warning as one line, without the place in the code that it came from."""
    say(f"warning: {message}")


def _split(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take --traceback out of the arguments, so that it may follow the command."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--traceback"]
    wanted = len(options) < end or os.environ.get(_TRACEBACK, "") not in ("", "0")
    return [*options, *arguments[end:]], wanted
