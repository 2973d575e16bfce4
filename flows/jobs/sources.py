"""A source of images, from the plain values that a job holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vfs_ops.errors import SourceError

if TYPE_CHECKING:
    from vfs_ops.datasets.sources import Source


def make_source(text: str, labels: str | None, path_column: str | None, tars: bool) -> Source:
    """Return the source that a job names.

    Parameters
    ----------
    text
        See `vfs_ops.datasets.source_kinds.as_source`.
    labels
        For a folder: ``folder``, or a CSV.
    path_column
        For a table: the column of paths or URLs.
    tars
        True for a folder of tar shards.

    Raises
    ------
    SourceError
        If it is none, or an option is for another kind of source.
    """
    from vfs_ops.datasets.folders import FolderSource
    from vfs_ops.datasets.source_kinds import as_source
    from vfs_ops.datasets.tables import TableSource
    from vfs_ops.datasets.tars import TarSource

    source = TarSource(text) if tars else as_source(text)
    if isinstance(source, FolderSource) and labels is not None:
        source = replace(source, labels=labels)
    elif labels is not None:
        raise SourceError(f"labels are for a folder of images; {text!r} is none, so leave them out")
    if isinstance(source, TableSource):
        source = replace(source, path_column=path_column)
    elif path_column is not None:
        raise SourceError(f"a path column is for a table; {text!r} is none, so leave it out")
    return source
