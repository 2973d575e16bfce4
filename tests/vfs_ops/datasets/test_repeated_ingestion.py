"""A source that was ingested before: only what is new is read."""

import os
import shutil
from pathlib import Path

import pytest
from counting import Counting, objects
from PIL import Image

from vfs_ops.datasets.dataset import folder_of, hint_key
from vfs_ops.datasets.folders import FolderSource
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import (
    SourceError,
)
from vfs_ops.identity.canonical import parse_json
from vfs_ops.store.workspace import Workspace


@pytest.mark.usefixtures("small_batches")
def test_an_unchanged_source_is_not_read_again(folder: Path, workspace: Workspace) -> None:
    dataset = ingest(str(folder), workspace)
    before = objects(workspace)
    source = Counting(FolderSource(str(folder)))
    again = ingest(source, workspace, previous=dataset)
    assert source.read == []
    assert again == dataset
    assert objects(workspace) == before
    ingest(source, workspace, previous=dataset, rehash=True)
    assert len(source.read) == 12


@pytest.mark.usefixtures("small_batches")
def test_only_what_changed_is_read(folder: Path, workspace: Workspace) -> None:
    dataset = ingest(str(folder), workspace)
    (folder / "even" / "0004.png").unlink()
    shutil.copy(folder / "odd" / "0001.png", folder / "odd" / "0003.png")
    shutil.copy(folder / "odd" / "0005.png", folder / "a-new-first.png")
    os.utime(folder / "odd" / "0007.png", ns=(1, 1))
    source = Counting(FolderSource(str(folder)))
    changed = ingest(source, workspace, previous=dataset)
    assert sorted(source.read) == ["a-new-first.png", "odd/0003.png", "odd/0007.png"]
    fresh = ingest(str(folder), Workspace.in_memory(), previous=dataset, rehash=True)
    assert changed.id == fresh.id != dataset.id
    assert changed.table().equals(fresh.table())
    assert [changed.preview(row) for row in range(12)] == [fresh.preview(row) for row in range(12)]


def test_a_new_time_alone_gives_the_same_dataset(folder: Path, workspace: Workspace) -> None:
    dataset = ingest(str(folder), workspace)
    os.utime(folder / "odd" / "0001.png", ns=(5, 5))
    for expected in (["odd/0001.png"], []):  # the second time, the new time is known
        source = Counting(FolderSource(str(folder)))
        assert ingest(source, workspace, previous=dataset) == dataset
        assert source.read == expected


def test_previous_may_be_in_another_workspace(folder: Path, workspace: Workspace) -> None:
    previous = ingest(str(folder), Workspace.in_memory())
    source = Counting(FolderSource(str(folder)))
    dataset = ingest(source, workspace, previous=previous)
    assert source.read == []
    assert dataset.preview(7) == previous.preview(7)


def test_another_folder_with_equal_names_sizes_and_times_is_read(
    tmp_path: Path, workspace: Workspace
) -> None:
    for name, color in (("A", "red"), ("B", "blue")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32), color).save(tmp_path / name / "x.bmp")
        os.utime(tmp_path / name / "x.bmp", (1e9, 1e9))
    before = ingest(str(tmp_path / "A"), workspace)
    source = Counting(FolderSource(str(tmp_path / "B")))
    after = ingest(source, workspace, previous=before)
    assert source.read == ["x.bmp"]
    assert after.images_id != before.images_id
    assert after.reader().read(0).getpixel((0, 0)) == (0, 0, 255)
    assert before.reader().read(0).getpixel((0, 0)) == (255, 0, 0)


def test_without_a_hint_all_is_read(folder: Path, workspace: Workspace) -> None:
    dataset = ingest(str(folder), workspace)
    for damage in (lambda key: workspace.replace(key, b"junk"), workspace.delete):
        damage(hint_key(dataset.id))
        source = Counting(FolderSource(str(folder)))
        assert ingest(source, workspace, previous=dataset) == dataset
        assert len(source.read) == 12


def test_an_equal_dataset_from_elsewhere_moves_the_hint(
    folder: Path, workspace: Workspace, tmp_path: Path
) -> None:
    dataset = ingest(str(folder), workspace)
    shutil.copytree(folder, tmp_path / "copy")
    assert ingest(str(tmp_path / "copy"), workspace) == dataset
    shutil.rmtree(folder)
    assert dataset.reader().read(3).size == (64, 48)


def test_no_local_folder_is_told_in_a_workspace_that_others_see(
    folder: Path, tmp_path: Path
) -> None:
    class Distant(Workspace):
        protocol = "s3"  # type: ignore[assignment]
        filesystem = Workspace.at("/").filesystem  # type: ignore[assignment]

    workspace = Distant(f"file://{tmp_path}/distant")
    dataset = ingest(str(folder), workspace)
    assert all(str(folder).encode() not in data for data in objects(workspace).values())
    with pytest.raises(SourceError, match="images=FOLDER"):
        dataset.reader()
    assert dataset.reader(str(folder)).read(3).size == (64, 48)
    source = Counting(FolderSource(str(folder)))  # yet the folder is known again
    assert ingest(source, workspace, previous=dataset) == dataset
    assert source.read == []
    shutil.copytree(folder, tmp_path / "copy")
    source = Counting(FolderSource(str(tmp_path / "copy")))
    assert ingest(source, workspace, previous=dataset) == dataset
    assert len(source.read) == 12
    assert parse_json(workspace.read(hint_key(dataset.id)), "hint")["kind"] == "elsewhere"


def test_without_change_tokens_all_is_read(folder: Path, workspace: Workspace) -> None:
    dataset = ingest(str(folder), workspace)
    for damage in (lambda key: workspace.replace(key, b"junk"), workspace.delete):
        damage(f"{folder_of(dataset.id)}/stat.parquet")
        source = Counting(FolderSource(str(folder)))
        assert ingest(source, workspace, previous=dataset) == dataset
        assert len(source.read) == 12
