"""What a person may give as a source of images, and the source that it stands for."""

from __future__ import annotations

import os
from typing import Any, Final

import numpy as np

from vfs_ops.datasets.folders import FolderSource
from vfs_ops.datasets.objects import Indexed, ObjectSource, torchvision_source
from vfs_ops.datasets.sources import Source
from vfs_ops.datasets.tables import TableSource
from vfs_ops.datasets.tabular import is_table_name
from vfs_ops.datasets.tars import TarSource
from vfs_ops.errors import SourceError

TORCHVISION: Final = "torchvision:"


def as_source(given: Any) -> Source:
    """Return the source of images that a path, a URL or an object stands for.

    Parameters
    ----------
    given
        A source; the path or URL of a table (``.csv``, ``.tsv``, ``.parquet``), of a ``.tar`` shard
        or of a folder of images; ``torchvision:NAME``, found in the folder ``data``; or an object
        with a length whose items are (image, target).

    Raises
    ------
    SourceError
        If it is none of these.
    """
    if isinstance(given, Source):
        return given
    if isinstance(given, str | os.PathLike):
        text = os.fspath(given)
        if text.startswith(TORCHVISION):
            return torchvision_source(text.removeprefix(TORCHVISION))
        if text.lower().endswith(".tar"):
            return TarSource(text)
        return TableSource(text) if is_table_name(text) else FolderSource(text)
    if isinstance(given, Indexed) and not isinstance(given, bytes | dict | np.ndarray):
        return ObjectSource(given, type(given).__name__)
    raise SourceError(
        f"a {type(given).__name__} is no source of images; expected a path, a URL or a source"
    )
