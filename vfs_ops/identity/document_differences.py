"""In which fields two documents differ, in words."""

from __future__ import annotations

from typing import Any


def differences(ours: Any, theirs: Any, name: str = "") -> list[str]:
    """Name the fields that differ between two documents, with both values.

    Examples
    --------
    >>> differences({"layer": "blocks.4"}, {"layer": "blocks.6"})
    ["layer is 'blocks.4', in the cache 'blocks.6'"]
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            difference
            for key in sorted(ours.keys() | theirs.keys())
            for difference in differences(
                ours.get(key), theirs.get(key), f"{name}.{key}" if name else key
            )
        ]
    if ours == theirs:
        return []
    return [f"{name} is {_short(ours)}, in the cache {_short(theirs)}"]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:24]}…{text[-8:]}"
