"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import click

from catalog.entries import EntryType
from vfs_ops.errors import NotFoundError, QueryError
from vfs_ops.sizes import parse_size

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_WORKSPACE: Final = "vfs-workspace"
FIGURE_SUFFIXES: Final = (".png", ".svg", ".pdf", ".jpg", ".jpeg")


class LocalPath(click.Path):
    """A path on this machine; ``~`` is expanded, which shells do not do after ``=``."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | Any:
        """Return the path as text, expanded and checked."""
        return super().convert(str(Path(value).expanduser()), param, ctx)


class FigurePath(LocalPath):
    """Where a figure shall be written; refused before there is anything to draw."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | Any:
        """Return the path as text.

        Raises
        ------
        QueryError
            If its suffix is none of a picture, or it is a folder.
        NotFoundError
            If there is no such folder.
        """
        path = Path(str(super().convert(value, param, ctx)))
        if path.suffix.lower() not in FIGURE_SUFFIXES or path.is_dir():
            raise QueryError(
                f"--figure {value!r}: expected a file named {', '.join(FIGURE_SUFFIXES)}"
            )
        if not path.parent.is_dir():
            raise NotFoundError(f"--figure {value!r}: there is no folder {path.parent}; make it")
        return str(path)


class SizeText(click.ParamType[str]):
    """A number of bytes with its unit, left as it is written."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text.

        Raises
        ------
        InputError
            If it is no size.
        """
        parse_size(value)
        return str(value)


json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, for scripts.")
kind_option = click.option(
    "--kind", type=click.Choice(get_args(EntryType)), default="cache", show_default=True
)
track_option = click.option(
    "--track",
    is_flag=True,
    help="Start an embedded Prefect server to track this, where none is configured.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Decoding threads.  [default: all processors]"
)


def model_options(command: Command) -> Command:
    """Add --weights and --checkpoint."""
    command = click.option(
        "--checkpoint",
        type=LocalPath(),
        help="Local file with the model's weights (tensors only; .safetensors or a state dict).",
    )(command)
    return click.option(
        "--weights", help="The library's name of the weights, or random:SEED.  [default: its best]"
    )(command)


def source_options(command: Command) -> Command:
    """Add --labels, --path-column and --tars: how a source is read."""
    command = click.option("--tars", is_flag=True, help="A folder of tar shards (WebDataset).")(
        command
    )
    command = click.option("--path-column", help="For a table: the column of paths or URLs.")(
        command
    )
    return click.option(
        "--labels", help="For a folder: 'folder' (names of folders; the default) or a CSV."
    )(command)
