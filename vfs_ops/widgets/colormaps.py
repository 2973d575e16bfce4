"""Tables of colours that are perceptually uniform, computed from matplotlib."""

from __future__ import annotations

import base64
from typing import Final

import numpy as np
from numpy.typing import NDArray

COLORMAPS: Final = ("viridis", "cividis", "magma", "inferno", "plasma")
"""Uniform in lightness, so that equal steps of value look equal, in print and to the colour-blind;
the first is the default."""

# Okabe and Ito, "Color Universal Design" (2008), without black: told apart by the colour-blind.
_DISTINCT: Final = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def colour_table(name: str) -> NDArray[np.uint8]:
    """Return the colours of a map, uint8 of shape (256, 3), lowest value first."""
    from matplotlib import colormaps

    colours = colormaps[name](np.arange(256), bytes=True)
    table: NDArray[np.uint8] = np.ascontiguousarray(colours[:, :3])
    return table


def encoded_tables() -> dict[str, str]:
    """Return all tables for the browser, each as base64 of its 768 bytes."""
    return {name: base64.b64encode(colour_table(name).tobytes()).decode() for name in COLORMAPS}


def distinct_colours(count: int) -> list[str]:
    """Return colours of groups, as ``#rrggbb``.

    The first seven are those of Okabe and Ito; the next are the same, lighter and then darker.
    """
    from matplotlib.colors import to_hex, to_rgb

    colours = []
    for number in range(count):
        colour = np.array(to_rgb(_DISTINCT[number % len(_DISTINCT)]))
        round_ = number // len(_DISTINCT)
        if round_:
            colour = colour + 0.5 * (1 - colour) if round_ % 2 else colour * 0.6
        colours.append(to_hex(tuple(colour.tolist())))
    return colours
