"""Publish a catalog: one static page beside the index, on which a person browses the caches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from catalog.contents import Contents, read_contents
from catalog.page import Mosaic, render_page, shown_caches
from vfs_ops.errors import DamagedError, NewerFormatError, NotFoundError, VfsError
from vfs_ops.store.urls import normalize_url
from vfs_ops.store.workspace import Workspace

PAGE_KEY: Final = "catalog/index.html"


@dataclass(frozen=True)
class Published:
    """What was published."""

    key: str
    """Of the page, in the workspace."""
    bytes: int
    datasets: int
    caches: int
    """Cards: versions that are the latest of their name, or where an alias stands."""
    without_previews: tuple[str, ...]
    """Names of datasets that have none."""
    problems: tuple[VfsError, ...]
    """Why records, datasets or their previews could not be read; the page does without them."""


def publish(workspace: Workspace, *, url: str | None = None, previews: bool = True) -> Published:
    """Write ``catalog/index.html``: a page that works offline and from any web server.

    It holds everything that it shows: entries, aliases, deprecations, recipes, and mosaics of small
    previews. The lines to copy name the workspace by `url`; without it, by the place that the page
    is opened from, so that the page can be copied with the workspace and holds no local path.

    Parameters
    ----------
    workspace
        Whose catalog is published.
    url
        Where people reach the workspace, if not where they find the page: ``s3://…``.
    previews
        False for images that may not be shown.

    Raises
    ------
    InvalidUrlError
        If `url` is none of a workspace.
    AccessError, StorageError
        If the workspace cannot be read or written.
    """
    shown_url = None if url is None else normalize_url(url)
    contents = read_contents(workspace)
    mosaics, problems = _mosaics(workspace, contents) if previews else ({}, [])
    page = render_page(contents, mosaics, shown_url).encode()
    if workspace.read_optional(PAGE_KEY) != page:
        workspace.replace(PAGE_KEY, page)
    datasets = [entry for entry in contents.entries if entry.type == "dataset"]
    without = [name for identity, name in _datasets(contents).items() if identity not in mosaics]
    return Published(
        PAGE_KEY,
        len(page),
        len(datasets),
        len(shown_caches(contents)),
        tuple(without),
        (*contents.problems, *problems),
    )


def _datasets(contents: Contents) -> dict[str, str]:
    """Return the names of all datasets that the page shows, by id."""
    caches = shown_caches(contents)
    names = {entry.facts["dataset"]["id"]: entry.facts["dataset"]["name"] for entry in caches}
    return names | {entry.id: entry.name for entry in contents.entries if entry.type == "dataset"}


def _mosaics(workspace: Workspace, contents: Contents) -> tuple[dict[str, Mosaic], list[VfsError]]:
    from catalog.mosaics import make_mosaic
    from vfs_ops.datasets.dataset import open_dataset

    mosaics: dict[str, Mosaic] = {}
    problems: list[VfsError] = []
    for identity in _datasets(contents):
        try:
            made = make_mosaic(open_dataset(workspace, identity))
        except (NotFoundError, DamagedError, NewerFormatError) as error:
            problems.append(error)  # an entry may name what lies elsewhere, or is damaged
            continue
        if made is not None:
            mosaics[identity] = Mosaic(*made)
    return mosaics, problems
