"""Ingests that are interrupted, and several at once: nothing half-written, nothing lost."""

import errno
import io
import os
import shutil
import threading
from pathlib import Path

import pytest
from counting import Counting, finished, objects
from PIL import Image

from vfs_ops.datasets import previews
from vfs_ops.datasets.dataset import Dataset, folder_of
from vfs_ops.datasets.folders import FolderSource
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import (
    AccessError,
    IncompleteError,
    StorageFullError,
)
from vfs_ops.store.workspace import Workspace


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), AccessError("no")])
def test_an_interrupted_ingest_continues(
    folder: Path, workspace: Workspace, error: BaseException
) -> None:
    failing = "odd/0007.png"  # the tenth row: two batches of four are finished
    first = Counting(FolderSource(str(folder)), failing, error)
    with pytest.raises(type(error)):
        ingest(first, workspace, threads=1)
    assert finished(workspace) == []
    assert workspace.names("datasets") == []
    staged = [key for key in objects(workspace) if key.startswith("staging/")]
    assert len(staged) == 4
    second = Counting(FolderSource(str(folder)))
    dataset = ingest(second, workspace, threads=2)
    assert len(second.read) == 4
    whole = ingest(str(folder), Workspace.in_memory())
    assert dataset.table().equals(whole.table())
    assert [dataset.preview(r) for r in range(12)] == [whole.preview(r) for r in range(12)]
    assert not [key for key in objects(workspace) if key.startswith("staging/")]


@pytest.mark.usefixtures("small_batches")
def test_a_file_changed_since_the_interruption_is_read_again(
    folder: Path, workspace: Workspace
) -> None:
    source = FolderSource(str(folder))
    with pytest.raises(AccessError):
        ingest(Counting(source, "odd/0007.png", AccessError("no")), workspace, threads=1)
    shutil.copy(folder / "odd" / "0001.png", folder / "even" / "0000.png")
    second = Counting(source)
    ingest(second, workspace)
    assert "even/0000.png" in second.read
    assert len(second.read) == 5


@pytest.mark.usefixtures("small_batches")
def test_a_damaged_staged_batch_is_read_again(folder: Path, workspace: Workspace) -> None:
    source = FolderSource(str(folder))
    with pytest.raises(AccessError):
        ingest(Counting(source, "odd/0007.png", AccessError("no")), workspace, threads=1)
    key = next(key for key in sorted(objects(workspace)) if key.endswith("-00000.parquet"))
    workspace.replace(key, b"junk")
    second = Counting(source)
    ingest(second, workspace)
    assert len(second.read) == 8


def test_a_full_disk_leaves_no_dataset(
    folder: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFullError):
            ingest(str(folder), workspace)
    assert objects(workspace) == {}
    assert ingest(str(folder), workspace).count == 12


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("writes", range(3, 12))
def test_a_commit_that_stops_anywhere_can_be_finished(
    folder: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    left = writes
    whole = Workspace.create

    def create(self: Workspace, key: str, data: bytes) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            raise StorageFullError("full")
        return whole(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "create", create)
        try:
            ingest(str(folder), workspace)
        except StorageFullError:
            assert finished(workspace) == []
    dataset = ingest(str(folder), workspace)
    expected = ingest(str(folder), Workspace.in_memory())
    assert dataset.table().equals(expected.table())
    assert [dataset.preview(r) for r in range(12)] == [expected.preview(r) for r in range(12)]


def test_leftovers_with_other_previews_are_not_mixed(
    folder: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(previews, "PREVIEW_QUALITY", 30)
        dataset = ingest(str(folder), workspace)
    workspace.delete(f"{folder_of(dataset.id)}/dataset.json")
    with pytest.raises(IncompleteError, match="another version"):
        ingest(str(folder), workspace)
    workspace.delete(folder_of(dataset.id))
    assert ingest(str(folder), workspace).id == dataset.id


def test_many_at_once_make_one_dataset(folder: Path, workspace: Workspace) -> None:
    found: list[Dataset] = []
    threads = [
        threading.Thread(target=lambda: found.append(ingest(FolderSource(str(folder)), workspace)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({dataset.id for dataset in found}) == 1
    assert len(found) == 4
    assert Image.open(io.BytesIO(found[0].preview(11))).size == (64, 48)
