"""Where the images of a dataset came from: the hint in ``source.json``, which is not trusted."""

from __future__ import annotations

from typing import Any, Final

from vfs_ops.datasets.sources import Files, Reader
from vfs_ops.errors import SourceError
from vfs_ops.identity.canonical import document_id, parse_json
from vfs_ops.store.locations import Folder
from vfs_ops.store.urls import LOCAL_PROTOCOLS, SOURCE_PROTOCOLS, normalize_url
from vfs_ops.store.workspace import Workspace

_ELSEWHERE: Final = "elsewhere"


def origin_hint(origin: dict[str, Any], workspace: Workspace) -> dict[str, Any]:
    """Return what a workspace may tell of an origin.

    In a workspace that others see too, a local folder is replaced by a digest: its path is nobody's
    business and leads nowhere on another machine, yet the same folder can be told from others.

    Parameters
    ----------
    origin
        Of a `Listing`.
    workspace
        That the dataset is in.
    """
    if _is_local(origin.get("root")) and workspace.protocol not in LOCAL_PROTOCOLS:
        return {"kind": _ELSEWHERE, "digest": document_id(origin)}
    return origin


def hint_for_copy(hint: bytes, source: Workspace, target: Workspace) -> dict[str, Any] | None:
    """Return what a copy of a dataset may tell of its origin; None if nothing.

    A shared workspace is told no local path. Nor is a local path believed that a shared workspace
    tells, since reading the images would follow it on this machine.

    Parameters
    ----------
    hint
        Content of ``source.json`` in `source`.
    source, target
        Where the dataset is copied from, and to.
    """
    origin = parse_json(hint, "source.json")
    if _is_local(origin.get("root")) and source.protocol not in LOCAL_PROTOCOLS:
        return None
    return origin_hint(origin, target)


def original_reader(hint: bytes | None, workspace: Workspace, dataset_id: str) -> Reader:
    """Return what reads images where they were when they were ingested.

    Parameters
    ----------
    hint
        Content of ``source.json``, if there is one.
    workspace, dataset_id
        Where it was found.

    Raises
    ------
    SourceError
        If it does not tell, or names a local folder in a workspace that is not on this machine.
    InvalidUrlError, DamagedError
        If it is malformed.
    """
    origin = parse_json(hint or b"{}", f"source.json of dataset {dataset_id}")
    kind, root = origin.get("kind"), origin.get("root")
    if kind == _ELSEWHERE or (_is_local(root) and workspace.protocol not in LOCAL_PROTOCOLS):
        raise SourceError(
            f"dataset {dataset_id} was ingested from a local folder of some machine; say where "
            "the images are here: images=FOLDER"
        )
    if kind != "files" or not isinstance(root, str | None):
        raise SourceError(
            f"the images of dataset {dataset_id} came from {str(kind)[:100]!r}, "
            "which cannot be opened again by itself; give the source as images=…"
        )
    return Files(None if root is None else Folder(normalize_url(root, SOURCE_PROTOCOLS)))


def _is_local(root: object) -> bool:
    """Tell by its protocol; a path without one is local too."""
    if not isinstance(root, str):
        return False
    protocol, colon, _ = root.partition("://")
    return not colon or protocol.lower() in LOCAL_PROTOCOLS
