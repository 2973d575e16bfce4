"""Folders of images, local or remote, as dataset sources; labels from folders or from a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from vfs_ops.datasets.sources import Listing, file_listing, is_image_name
from vfs_ops.datasets.tabular import find_path_column, read_table, split_url, text_column
from vfs_ops.errors import SourceError
from vfs_ops.store.locations import Folder

LABELS_FROM_FOLDERS: Final = "folder"


@dataclass(frozen=True)
class FolderSource:
    """All images below a folder, recursively, in the order of their relative paths.

    What counts as an image is told by the extension (`sources.EXTENSIONS`). Files and folders whose
    name starts with a dot are left out.
    """

    url: str
    labels: str | None = LABELS_FROM_FOLDERS
    """``"folder"``: the name of the folder that an image is in, if it is below this one. Or the
    path or URL of a table with a column of relative paths or file names, a column ``label`` and
    any metadata. None: no labels."""

    def listing(self) -> Listing:
        """List the images; see `Source.listing`."""
        root = Folder.at(self.url)
        stats = [stat for stat in root.walk() if _is_wanted(stat.path)]
        if not stats and not root.exists(""):
            raise SourceError(f"{root.url} is not there; check the path")
        if not stats:
            raise SourceError(
                f"{root.url} holds no image file; expected a folder with files named .jpg, .png or "
                "the like, at any depth; check the path, and give tar shards as such"
            )
        uris = [stat.path for stat in stats]
        labels: Sequence[str | None] = [None] * len(uris)
        metadata = None
        if self.labels == LABELS_FROM_FOLDERS:
            labels = [uri.rpartition("/")[0].rpartition("/")[2] or None for uri in uris]
        elif self.labels is not None:
            labels, metadata = _labels_from_table(self.labels, uris)
        return file_listing(
            root,
            uris,
            labels,
            [stat.token for stat in stats],
            [stat.size for stat in stats],
            metadata,
        )


def _is_wanted(path: str) -> bool:
    return is_image_name(path) and not any(part.startswith(".") for part in path.split("/"))


def _labels_from_table(url: str, uris: Sequence[str]) -> tuple[list[str | None], pa.Table]:
    folder, name = split_url(url)
    table = read_table(folder, name)
    path_column = find_path_column(table, url)
    label = "label" if "label" in table.column_names else None
    found = _match(text_column(table, path_column, url), uris, url)
    row_of = np.full(len(uris), -1, np.int64)
    for row, image in enumerate(found):
        if row_of[image] >= 0:
            raise SourceError(f"{url} has two rows for {uris[image]!r}; expected one at most")
        row_of[image] = row
    rows = pa.array(row_of, mask=row_of < 0)  # null: no row, all columns null
    labels = table.take(rows)
    texts: list[str | None] = (
        [None] * len(uris) if label is None else text_column(labels, label, url)
    )
    return texts, labels.drop_columns([path_column] if label is None else [path_column, label])


def _match(paths: Sequence[str | None], uris: Sequence[str], url: str) -> list[int]:
    by_path = {uri: image for image, uri in enumerate(uris)}
    by_name: dict[str, list[int]] = defaultdict(list)
    for image, uri in enumerate(uris):
        by_name[uri.rpartition("/")[2]].append(image)
    found, missing = [], []
    for path in paths:
        images = [by_path[path]] if path in by_path else by_name.get(path or "", [])
        if len(images) > 1:
            raise SourceError(
                f"{url} names {path!r}, and {len(images)} images have that name; give relative "
                "paths instead of file names"
            )
        if images:
            found.append(images[0])
        else:
            missing.append(path or "(empty)")
    if missing:
        raise SourceError(
            f"{url} names {len(missing)} images that are not there, such as "
            f"{', '.join(repr(path[:99]) for path in missing[:3])}; correct the table or folder"
        )
    return found
