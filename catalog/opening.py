"""Open what an entry names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.lookup import Workspaces, as_workspaces, locate
from vfs_ops.errors import NotFoundError
from vfs_ops.identity.canonical import is_id
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache
    from vfs_ops.datasets.dataset import Dataset


def open_dataset(workspace: Workspace, reference: str) -> Dataset:
    """Open a dataset by name or id; see `find`."""
    from vfs_ops.datasets.dataset import open_dataset as open_by_id

    located = locate(workspace, reference, "dataset")
    located.warn()
    return open_by_id(workspace, located.entry.id)


def open_cache(workspace: Workspace, reference: str) -> Cache:
    """Open a cache by name or id, with the labels and metadata its entry names.

    Raises
    ------
    NotFoundError, QueryError
        See `find`.
    IncompleteError, DamagedError, UnsafeMetadataError, NewerFormatError
        See `vfs_ops.caches.cache.open_cache`.
    """
    return open_reference(reference, workspace)


def opening_lines(reference: str, url: str) -> str:
    """Return the three lines of Python that open a cache.

    Examples
    --------
    >>> print(opening_lines("photos-resnet50-layer4@2", "s3://team"))
    import catalog
    workspace = "s3://team"
    cache = catalog.open("photos-resnet50-layer4@2", workspace)
    """
    return (
        f"import catalog\nworkspace = {_literal(url)}\n"
        f"cache = catalog.open({_literal(reference)}, workspace)"
    )


def _literal(text: str) -> str:
    """Return text as Python writes it, in double quotes; what cannot be seen is escaped."""
    in_single = repr(f'"{text}')[2:-1]  # text that holds a double quote is put in single ones
    return '"' + in_single.replace("\\'", "'").replace('"', '\\"') + '"'


def open_reference(reference: str, workspaces: Workspaces | None = None) -> Cache:
    """Open a cache by name or id, in one catalog or several: ``catalog.open``.

    Parameters
    ----------
    reference
        See `find`.
    workspaces
        Where to look; ``$VFS_WORKSPACE``, else the folder ``vfs-workspace``, by default.

    Warns
    -----
    DeprecatedWarning
        If the entry is deprecated, naming its successor.

    Raises
    ------
    NotFoundError, QueryError
        See `locate`.
    IncompleteError, DamagedError, UnsafeMetadataError, NewerFormatError
        See `vfs_ops.caches.cache.open_cache`.

    Examples
    --------
    >>> catalog.open("photos-resnet50-layer4@team-default")             # doctest: +SKIP
    >>> catalog.open("photos-resnet50-layer4", ["s3://team", "https://public.example/vfs"])
    ... # doctest: +SKIP
    """
    from vfs_ops.caches.cache import open_cache as open_by_id
    from vfs_ops.datasets.dataset import open_dataset as open_dataset_by_id

    places = as_workspaces(workspaces)
    try:
        located = locate(places, reference, "cache")
    except NotFoundError:
        if is_id(reference) and len(places) == 1:  # perhaps not finished, or never registered
            return open_by_id(places[0], reference)
        raise
    located.warn()
    workspace, entry = located.workspace, located.entry
    dataset = open_dataset_by_id(workspace, entry.facts["dataset"]["id"])
    return open_by_id(workspace, entry.id, dataset)
