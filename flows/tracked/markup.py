"""Text that others wrote, for the Markdown that Prefect's pages render."""

from __future__ import annotations

import base64
import re
from typing import Final

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>()!|~:@&$^\"'])|^(\s*)([-+#=>]|\d+(?=[.)]\s))")
_LONGEST: Final = 500


def escaped(text: object) -> str:
    r"""Return text that Markdown shows as it is: no link, image, tag, list or second line.

    Examples
    --------
    >>> escaped("a [cat](http://x)")
    'a \\\\[cat\\\\]\\\\(http\\\\://x\\\\)'
    """
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    if len(line) > _LONGEST:
        line = f"{line[:_LONGEST]}…"
    return _SPECIAL.sub(lambda found: _escape(found), line)


def picture_markdown(title: str, png: bytes) -> str:
    """Return Markdown that holds a picture, without any address."""
    data = base64.b64encode(png).decode()
    return f"{escaped(title)}\n\n![]({'data:image/png;base64,' + data})\n"


def artifact_key(text: str) -> str:
    """Return a key as Prefect allows it: lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _escape(found: re.Match[str]) -> str:
    if found[1] is not None:
        return f"\\{found[1]}"
    indent, mark = found[2], found[3]
    return f"{indent}{mark}\u2060" if mark.isdigit() else f"{indent}\\{mark}"
