"""Our JavaScript modules, joined into the one that anywidget takes; our style sheets likewise.

A widget's front end is some small ES modules in ``static/``; there is no build step. They import
each other in one form, ``import { a, b } from "./other.js";``, and export in three, ``export
function``, ``export class`` and ``export const``, at the start of a line; an entry ends with
``export default``. Each module becomes a function that is called once, so that
their private names never meet.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

_STATIC: Final = Path(__file__).parent / "static"
_IMPORT: Final = re.compile(
    r'^import \{\s*(\w+(?:,\s*\w+)*),?\s*\} from "\./([\w/]+)\.js";\n', re.MULTILINE
)
_EXPORT: Final = re.compile(r"^export ((?:async )?function\*?|class|const) (\w+)", re.MULTILINE)
_DEFAULT: Final = re.compile(r"^export default ", re.MULTILINE)
_LEFT: Final = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)


@cache
def bundle(entry: str, folder: Path = _STATIC) -> str:
    """Join a module and all that it imports into one ES module without imports.

    Parameters
    ----------
    entry
        Name of the module with the default export, without ``.js``.
    folder
        Where the modules lie.

    Returns
    -------
    str
        The same text for the same files, on every machine.

    Raises
    ------
    ValueError
        If a module imports or exports in another form, or modules import each other in a cycle.
    """
    parts: dict[str, str] = {}
    _collect(entry, folder, parts, ())
    return "\n".join([*parts.values(), f"export default {_variable(entry)}.default;\n"])


def stylesheet(*names: str) -> str:
    """Join style sheets of ``static/``: ``theme`` first, and then those named, without ``.css``."""
    return "\n".join(_read(_STATIC / f"{name}.css") for name in ("theme", *names))


def _collect(name: str, folder: Path, parts: dict[str, str], above: tuple[str, ...]) -> None:
    if name in parts:
        return
    if name in above:
        raise ValueError(
            f"modules import each other: {' → '.join([*above, name])}; break the cycle"
        )
    text = _read(folder / f"{name}.js")
    imported = _IMPORT.findall(text)
    for _, other in imported:
        _collect(other, folder, parts, (*above, name))
    exported = [match[1] for match in _EXPORT.findall(text)]
    body = _IMPORT.sub("", text)
    body = _EXPORT.sub(r"\1 \2", body)
    if _DEFAULT.search(body):
        body = _DEFAULT.sub("const __default = ", body)
        exported.append("default: __default")
    left = _LEFT.search(body)
    if left:
        raise ValueError(f"{name}.js: {left[0]!r}; see the forms that vfs_ops.widgets.bundle takes")
    takes = "".join(f"const {{ {names} }} = {_variable(other)};\n" for names, other in imported)
    gives = f"return {{ {', '.join(exported)} }};"
    parts[name] = f"const {_variable(name)} = (() => {{\n{takes}{body}{gives}\n}})();"


def _variable(name: str) -> str:
    return "__" + name.replace("/", "__")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
