"""Text that others wrote, for the Markdown that Prefect's pages render."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

_SPECIAL: Final = re.compile(
    r"[\\`*_{}\[\]<>()!|~:@&$^\"']|(?<=www)\.|^[-+#=>]|^\d+(?=[.)](?:\s|$))", re.IGNORECASE
)
_LONGEST: Final = 500


def escaped(text: object) -> str:
    r"""Return text that Markdown shows as it is: no link, image, tag, list or second line.

    Examples
    --------
    >>> escaped("a [cat](http://x)")
    'a \\\\[cat\\\\]\\\\(http\\\\://x\\\\)'
    """
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    line = line.strip(" ")  # four would make it code
    if len(line) > _LONGEST:
        line = f"{line[:_LONGEST]}…"
    return _SPECIAL.sub(_escape, line)


def picture_markdown(title: str, png: bytes) -> str:
    """Return Markdown that holds a picture, without any address."""
    data = base64.b64encode(png).decode()
    return f"{escaped(title)}\n\n![]({'data:image/png;base64,' + data})\n"


def code_markdown(title: str, lines: str) -> str:
    """Return Markdown that holds lines of Python as they are."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", lines)), default=0))
    return f"{escaped(title)}\n\n{fence}python\n{lines}\n{fence}\n"


def artifact_key(text: str) -> str:
    """Return a key of lower case letters, digits and dashes, as Prefect has them.

    A text that had to be changed has some digits of a digest behind it.

    Examples
    --------
    >>> artifact_key("plan-photos"), artifact_key("open-photos-blocks.6")
    ('plan-photos', 'open-photos-blocks-6-fb314216')
    """
    key = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return key if key == text else f"{key}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _escape(found: re.Match[str]) -> str:
    mark = found[0]
    return f"{mark}\u2060" if mark.isdigit() else f"\\{mark}"
