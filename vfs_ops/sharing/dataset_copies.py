"""Copying a dataset to another workspace, with or without the previews of its images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from vfs_ops.datasets.dataset import Dataset, folder_of, hint_key, open_dataset
from vfs_ops.datasets.manifests import dataset_document, decode_parquet
from vfs_ops.datasets.origins import hint_for_copy
from vfs_ops.datasets.previews import MAX_PACK_BYTES, check_span, left_out_key, pack_key
from vfs_ops.errors import DamagedError, NotFoundError
from vfs_ops.identity.canonical import canonical_json
from vfs_ops.progress import Progress, ProgressCallback
from vfs_ops.sharing.copying import Check, Copier
from vfs_ops.store.concurrent_reads import in_threads
from vfs_ops.store.locations import MAX_DOCUMENT_BYTES
from vfs_ops.store.workspace import Workspace

_COPIERS: Final = 8
_JPEG: Final = (b"\xff\xd8", b"\xff\xd9")
"""What every preview begins and ends with."""


def has_dataset(workspace: Workspace, dataset_id: str, *, previews: bool) -> bool:
    """Tell whether a workspace has a finished dataset; with `previews`, with these too."""
    try:
        open_dataset(workspace, dataset_id)
    except NotFoundError:
        return False
    return not previews or has_previews(workspace, dataset_id)


def has_previews(workspace: Workspace, dataset_id: str) -> bool:
    """Tell whether the previews of a dataset were not left out when it was copied."""
    key = left_out_key(folder_of(dataset_id))
    return workspace.read_optional(key, most=MAX_DOCUMENT_BYTES) is None


def copy_dataset(
    copier: Copier, dataset: Dataset, *, previews: bool, progress: ProgressCallback
) -> None:
    """Copy all of a dataset but its commit, every object checked.

    Previews have no digests: checked is that every one of them lies in its pack and is a JPEG
    from its first mark to its last.

    Raises
    ------
    DamagedError
        If the source's is damaged; the message names the object.
    """
    folder = folder_of(dataset.id)
    copier.look_around(folder)
    copier.copy(f"{folder}/manifest.parquet", _is_manifest_of(dataset), dataset.manifest.size)
    if previews:
        packs = list(_packs(dataset))
        copied = in_threads(lambda pack: copier.copy(*pack, MAX_PACK_BYTES), packs, _COPIERS)
        for done, _ in enumerate(copied, 1):
            progress(Progress("previews", done, len(packs), "packs"))
        copier.target.delete(left_out_key(folder))
    elif not has_dataset(copier.target, dataset.id, previews=False):
        copier.write(left_out_key(folder), canonical_json({"kind": "previews-left-out"}))
    _copy_hints(copier, dataset)


def finish_dataset(copier: Copier, dataset: Dataset) -> None:
    """Make a copied dataset exist for readers."""
    copier.write(f"{folder_of(dataset.id)}/dataset.json", canonical_json(dataset.document))


def _is_manifest_of(dataset: Dataset) -> Check:
    def right(data: bytes) -> bool:
        try:
            return dataset_document(decode_parquet(data, "the manifest")) == dataset.document
        except DamagedError:
            return False

    return right


def _packs(dataset: Dataset) -> Iterator[tuple[str, Check]]:
    """Yield the key of every pack with a preview in it, and what tells whether it is right."""
    names = ["preview_pack", "preview_offset", "preview_length"]
    table = dataset.table(names).drop_null()
    packs, offsets, lengths = (table[name].to_numpy() for name in names)
    for pack in np.unique(packs).tolist():
        mine = packs == pack
        spans = list(zip(offsets[mine].tolist(), lengths[mine].tolist(), strict=True))
        for offset, length in spans:
            check_span(pack, offset, length, f"a preview of dataset {dataset.id[:12]}")
        yield pack_key(folder_of(dataset.id), pack), _holds(spans)


def _holds(spans: list[tuple[int, int]]) -> Check:
    def right(data: bytes) -> bool:
        return all(
            offset + length <= len(data)
            and (data[offset : offset + 2], data[offset + length - 2 : offset + length]) == _JPEG
            for offset, length in spans
        )

    return right


def _copy_hints(copier: Copier, dataset: Dataset) -> None:
    """Copy what tells where the images are and whether they changed, as far as it may be told."""
    key = hint_key(dataset.id)
    stored = copier.source.read_optional(key, most=MAX_DOCUMENT_BYTES)
    hint = None if stored is None else hint_for_copy(stored, copier.source, copier.target)
    if hint is None or copier.target.exists(key):
        return
    tokens = f"{folder_of(dataset.id)}/stat.parquet"
    data = copier.source.read_optional(tokens)
    if data is not None:
        copier.write(tokens, data)
    copier.write(key, canonical_json(hint))
