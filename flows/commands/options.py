"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, for scripts.")
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Decoding threads.  [default: all processors]"
)


def model_options(command: Command) -> Command:
    """Add --weights and --checkpoint."""
    command = click.option(
        "--checkpoint",
        type=click.Path(),
        help="Local file with the model's weights (tensors only; .safetensors or a state dict).",
    )(command)
    return click.option(
        "--weights", help="The library's name of the weights, or random:SEED.  [default: its best]"
    )(command)
