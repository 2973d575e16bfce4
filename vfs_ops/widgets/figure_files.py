"""The figure of a panel as a file: a row of hits per cache, one above the other."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from PIL import Image

from vfs_ops.scans.hits import Hits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLE_INCHES: Final = 0.32
_SIZE: Final = re.compile(
    r'<svg[^>]*?\swidth="([\d.]+)pt"[^>]*?\sheight="([\d.]+)pt"|'
    r'<svg[^>]*?\sheight="([\d.]+)pt"[^>]*?\swidth="([\d.]+)pt"',
    re.DOTALL,
)


def figure_file(rows: Mapping[str, Hits], kind: Literal["png", "svg"]) -> bytes:
    """Draw the hits of one or several caches.

    Parameters
    ----------
    rows
        Name → hits, from top to bottom; several rows have their names above them.
    kind
        What to return.
    """
    figures: list[Figure] = []
    for name, hits in rows.items():
        figure = hits.figure(columns=max(1, len(hits)) if len(rows) > 1 else 5)
        if len(rows) > 1:
            figures.append(_title(name, figure.get_figwidth()))
        figures.append(figure)
    saved = []
    for figure in figures:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind)
        saved.append(buffer.getvalue())
    return _stacked_png(saved) if kind == "png" else _stacked_svg(saved)


def _title(name: str, width: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, _TITLE_INCHES), facecolor="white", dpi=150)
    figure.text(0.15 / width, 0.1, name, fontsize=10, fontweight="bold", parse_math=False)
    return figure


def _stacked_png(files: list[bytes]) -> bytes:
    images = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
    size = (max(image.width for image in images), sum(image.height for image in images))
    whole, top = Image.new("RGB", size, "white"), 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    buffer = io.BytesIO()
    whole.save(buffer, "PNG")
    return buffer.getvalue()


def _stacked_svg(files: list[bytes]) -> bytes:
    """Put drawings below each other, as one drawing that holds them."""
    if len(files) == 1:
        return files[0]
    parts, top, widest = [], 0.0, 0.0
    for file in files:
        text = file.decode()
        text = text[text.index("<svg") :]
        found = _SIZE.match(text)
        if found is None:
            raise ValueError(f"a drawing without its size: {text[:200]}")
        width, height = (float(found[1] or found[4]), float(found[2] or found[3]))
        parts.append(f'<svg y="{top:g}" {text[len("<svg ") :]}')
        top, widest = top + height, max(widest, width)
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{widest:g}pt" height="{top:g}pt" viewBox="0 0 {widest:g} {top:g}">'
    )
    return "\n".join(['<?xml version="1.0" encoding="utf-8"?>', head, *parts, "</svg>"]).encode()
