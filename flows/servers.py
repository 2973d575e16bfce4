"""Whether a Prefect server is configured; told without importing Prefect, which takes seconds."""

from __future__ import annotations

import os
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from vfs_ops.errors import UnavailableError

_VARIABLE: Final = "PREFECT_API_URL"
_SECONDS: Final = 10


def configured() -> str | None:
    """Return the address of the configured Prefect server's API; None if there is none.

    It is looked for where Prefect looks for it, in the same order: the environment, ``.env``,
    ``prefect.toml`` and ``pyproject.toml`` of the current folder, the active profile.
    """
    return next((address for address in _addresses() if address), None)


def check_answers(address: str) -> None:
    """Ask a server whether it is there.

    Raises
    ------
    UnavailableError
        If nothing answers.
    """
    if not address.startswith(("http://", "https://")):
        raise UnavailableError(f"{_VARIABLE} is {address[:200]!r}; expected http:// or https://")
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=_SECONDS):  # noqa: S310
            return
    except urllib.error.HTTPError:
        return  # it answers; whether it lets us in, the flow run will tell
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"the Prefect server at {address} does not answer; start it (`prefect server start`), "
            f"or unset {_VARIABLE} to run without one"
        ) from error


def _addresses() -> Iterator[Any]:
    yield os.environ.get(_VARIABLE)
    for line in _text(Path(".env")).splitlines():
        name, _, value = line.strip().removeprefix("export ").partition("=")
        if name.strip() == _VARIABLE:
            yield value.strip().strip("\"'")
    yield _within(_toml(Path("prefect.toml")), "api", "url")
    yield _within(_toml(Path("pyproject.toml")), "tool", "prefect", "api", "url")
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    profiles = os.environ.get("PREFECT_PROFILES_PATH")
    known = _toml(Path(profiles).expanduser() if profiles else home / "profiles.toml")
    active = os.environ.get("PREFECT_PROFILE") or known.get("active")
    yield _within(known, "profiles", str(active), _VARIABLE)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError:
        return {}  # Prefect itself will say so if it runs


def _within(document: Any, *names: str) -> Any:
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document
