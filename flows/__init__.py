"""Wiring: the command line, and the flows that schedule and watch long work."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.requests import CacheRequest as CacheRequest
    from flows.requests import request_cache as request_cache

__all__ = ["CacheRequest", "request_cache"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'flows' has no attribute {name!r}")
    return getattr(import_module("flows.requests"), name)
