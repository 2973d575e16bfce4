"""A widget as one HTML file that needs no server and no network."""

from __future__ import annotations

import base64
import html
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Final

from vfs_ops.store.failures import storage_errors
from vfs_ops.widgets.base import Answer
from vfs_ops.widgets.bundle import bundle

# Nothing may be loaded from anywhere: what the page needs is in the page.
_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)
_PAGE: Final = Template("""<!DOCTYPE html>
<html lang="en" class="vfs-page">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { max-width: 1100px; margin: 24px auto; padding: 0 16px; }
</style>
</head>
<body>
<main id="figure"></main>
<noscript>This figure needs JavaScript.</noscript>
<script type="application/json" id="saved">$saved</script>
<script type="module">
$start
</script>
</body>
</html>
""")


@dataclass(frozen=True)
class Reply:
    """What Python would answer to one request; see `vfs_ops.widgets.base.Widget`."""

    name: str
    value: Mapping[str, Any]
    answer: Answer


def save_page(
    path: str | Path,
    *,
    title: str,
    module: str,
    css: str,
    state: Mapping[str, Any],
    replies: Sequence[Reply],
) -> Path:
    """Write one self-contained HTML file that shows a widget without its Python side.

    Parameters
    ----------
    path
        Where to; a file that is there is replaced, once the new one is whole.
    title
        Of the page.
    module, css
        The widget's own, as anywidget takes them.
    state
        Its traits: what JSON can hold.
    replies
        The answers to all requests that it may make; any other is told that the figure was saved
        without it.

    Returns
    -------
    pathlib.Path
        Where it is.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    text = page(title=title, module=module, css=css, state=state, replies=replies)
    return save_file(path, text.encode())


def save_file(path: str | Path, data: bytes) -> Path:
    """Write a file whole, or leave what was there; return where it is.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    target = Path(path).expanduser()
    with storage_errors(f"the file {target}"):
        unfinished = target.with_name(f".{target.name[:80]}.{secrets.token_hex(8)}")
        try:
            unfinished.write_bytes(data)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    return target


def page(
    *, title: str, module: str, css: str, state: Mapping[str, Any], replies: Sequence[Reply]
) -> str:
    """Return the text that `save_page` writes."""
    saved = {
        "module": module,
        "css": css,
        "state": dict(state),
        "replies": [
            {
                "name": reply.name,
                "value": dict(reply.value),
                "answer": dict(reply.answer.value),
                "buffers": [base64.b64encode(each).decode() for each in reply.answer.buffers],
            }
            for reply in replies
        ],
    }
    return _PAGE.substitute(
        policy=html.escape(_POLICY),
        title=html.escape(title),
        saved=script_json(saved),
        start=bundle("saved_page"),
    )


def script_json(value: object) -> str:
    """Return JSON that may stand in a script element: no ``<``, ``>`` or ``&`` is left in it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII, so no U+2028 either
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
