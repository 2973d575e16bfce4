"""Widgets for notebooks: JupyterLab, Notebook 7, VS Code, Colab and marimo, by anywidget.

They take callables and arrays. The names here are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "Cells": "cells",
    "FactorOverlay": "factor_overlay",
    "RegionPicker": "picker",
    "SearchPanel": "panel",
    "SimilarityOverlay": "overlay",
    "TransformStudy": "transform_study",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'vfs_ops.widgets' has no attribute {name!r}")
    return getattr(import_module(f"vfs_ops.widgets.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
