"""Tables of paths or URLs with metadata, as dataset sources."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from vfs_ops.datasets.sources import Listing, file_listing, is_remote
from vfs_ops.datasets.tabular import find_path_column, read_table, split_url, text_column
from vfs_ops.errors import SourceError
from vfs_ops.store.file_stats import FileStat
from vfs_ops.store.locations import Folder
from vfs_ops.store.urls import LOCAL_PROTOCOLS, REMOTE_PROTOCOLS, normalize_url


@dataclass(frozen=True)
class TableSource:
    """A CSV or Parquet file with a column of paths or URLs; all other columns are metadata.

    Relative paths are relative to the table's folder. Absolute local paths are allowed in a local
    table; the common parent of all local files becomes the dataset's root, so that no local path
    stands in the manifest.
    """

    url: str
    path_column: str | None = None
    """By default the first there is of `tabular.PATH_COLUMNS`."""
    label_column: str | None = None
    """By default ``label``, if there is one."""

    def listing(self) -> Listing:
        """List the rows of the table; see `Source.listing`."""
        folder, name = split_url(self.url)
        given = [column for column in (self.path_column, self.label_column) if column is not None]
        table = read_table(folder, name, given)
        path = self.path_column or find_path_column(table, self.url)
        label = self.label_column or ("label" if "label" in table.column_names else None)
        root, uris = _resolve(folder, text_column(table, path, self.url))
        labels = [None] * len(uris) if label is None else text_column(table, label, self.url)
        if not uris:
            raise SourceError(f"{self.url} has no rows; expected one per image")
        stats = _local_stats(root, uris)
        return file_listing(
            root,
            uris,
            labels,
            [None if stat is None else stat.token for stat in stats],
            [None if stat is None else stat.size for stat in stats],
            table.drop_columns([path] if label is None else [path, label]),
        )


def _local_stats(root: Folder | None, uris: Sequence[str]) -> list[FileStat | None]:
    if root is None or root.protocol not in LOCAL_PROTOCOLS:
        return [None] * len(uris)  # a request each; asked for while reading, on many threads
    return [None if is_remote(uri) else root.stat(uri) for uri in uris]


def _resolve(folder: Folder, paths: Sequence[str | None]) -> tuple[Folder | None, list[str]]:
    """Return the root of the relative paths, and each path relative to it or its remote URL."""
    uris = [_clean(folder, row, path) for row, path in enumerate(paths)]
    local = [uri for uri in uris if not is_remote(uri)]
    if not local:
        return None, uris
    if not any(uri.startswith("/") for uri in local):
        return folder, uris
    base = folder.path_of("")
    full = [uri if is_remote(uri) or uri.startswith("/") else f"{base}/{uri}" for uri in uris]
    parent = os.path.commonpath([os.path.dirname(uri) for uri in full if not is_remote(uri)])
    return Folder.at(parent), [
        uri if is_remote(uri) else os.path.relpath(uri, parent) for uri in full
    ]


def _clean(folder: Folder, row: int, path: str | None) -> str:
    if not path:
        raise SourceError(f"row {row} of the table has no path; expected one in every row")
    if path.startswith("file://"):
        parts = urlsplit(path)
        if parts.netloc not in ("", "localhost"):
            raise SourceError(f"row {row}: {path!r} is on another host; expected a local file")
        path = unquote(parts.path)
    elif is_remote(path):
        return normalize_url(path, REMOTE_PROTOCOLS)
    if path.startswith("/") and folder.protocol != "file":
        raise SourceError(
            f"row {row}: {path!r} is a local file, named by a table that is not; only a local "
            "table may name them; use paths relative to the table, or remote URLs"
        )
    parts_of_path = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts_of_path or not parts_of_path or "\x00" in path:
        raise SourceError(f"row {row}: {path!r} has '..' or no name; expected a plain path")
    return ("/" if path.startswith("/") else "") + "/".join(parts_of_path)
