"""Ingesting a source: what is stored, what is read again, and what interruptions leave behind."""

import errno
import io
import itertools
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makers import write_photos
from PIL import Image

from vfs_ops.datasets import ingestion, previews, staging
from vfs_ops.datasets.dataset import Dataset, folder_of, hint_key, open_dataset
from vfs_ops.datasets.folders import FolderSource
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.datasets.sources import Content, Listing, Place
from vfs_ops.errors import (
    AccessError,
    IncompleteError,
    NotFoundError,
    SourceError,
    StorageFullError,
)
from vfs_ops.identity.canonical import parse_json
from vfs_ops.identity.spec import NULL_DIGEST
from vfs_ops.progress import Progress
from vfs_ops.store.locations import Folder
from vfs_ops.store.workspace import Workspace


@dataclass
class Counting:
    """A source that counts what is read, and fails or stops where it is told to."""

    inner: Any
    fail_at: str | None = None
    error: BaseException | None = None
    read: list[str] = field(default_factory=list)

    def listing(self) -> Listing:
        listing = self.inner.listing()
        self.reader = listing.reader
        return replace(listing, reader=self)

    def fetch(self, place: Place) -> Content:
        if place.uri == self.fail_at and self.error is not None:
            raise self.error
        self.read.append(place.uri)
        return self.reader.fetch(place)

    def stat(self, place: Place) -> Any:
        return self.reader.stat(place)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 12)
    return tmp_path / "photos"


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestion, "BATCH_ROWS", 4)
    monkeypatch.setattr(ingestion, "PACK_IMAGES", 5)


def objects(workspace: Workspace) -> dict[str, bytes]:
    return {stat.path: workspace.read(stat.path) for stat in workspace.walk()}


def finished(workspace: Workspace) -> list[str]:
    keys = objects(workspace)
    return [key.split("/")[1] for key in keys if key.endswith("/dataset.json")]


def test_a_folder_becomes_a_dataset(folder: Path, workspace: Workspace) -> None:
    dataset = ingest(str(folder), workspace)
    rows = dataset.table().to_pylist()
    assert [row["uri"] for row in rows] == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.png")
    )
    for row in rows:
        data = (folder / row["uri"]).read_bytes()
        assert row["digest"] == ingestion.opened(Content(data))[0]
        assert (row["width"], row["height"], row["bytes"]) == (64, 48, len(data))
        assert row["error"] is None
    assert dataset.count == 12
    assert finished(workspace) == [dataset.id]
    assert {key.split("/")[0] for key in objects(workspace)} == {"datasets"}  # nothing staged


def test_ids_are_pinned(tmp_path: Path, workspace: Workspace) -> None:
    # Whoever changes these changes the identity of every dataset there is.
    gif = "47494638396101000100800000ff0000ffffff2c00000000010001000002024401003b"
    (tmp_path / "in" / "cat").mkdir(parents=True)
    (tmp_path / "in" / "cat" / "a.gif").write_bytes(bytes.fromhex(gif))
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    (tmp_path / "labels.csv").write_text('file,label,score,boxes\na.gif,Katze,0.5,"[[1,2]]"\n')
    source = FolderSource(str(tmp_path / "in"), labels=str(tmp_path / "labels.csv"))
    dataset = ingest(source, workspace)
    assert dataset.table(["error"])["error"].null_count == 1
    assert dataset.document["columns"] == [
        ["score", "double"],
        ["boxes", "list<item: list<item: int64>>"],
    ]
    assert dataset.images_id == "6ce22903964de6abfaf3c857df9438a2de34d331d09fd852cc3ba1e37dafc526"
    assert dataset.id == "32b3d5f4af0ff3e73686c33cbd3fd60ea14bc97e921871f1973e0306257a076d"


def test_the_same_images_elsewhere_are_the_same_dataset(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    one = ingest(str(folder), Workspace.in_memory())
    two = ingest(str(tmp_path / "copy"), Workspace.at(str(tmp_path / "other")), threads=1)
    assert one.id == two.id
    assert one.table().equals(two.table())


def test_labels_change_the_dataset_and_not_the_images(folder: Path, workspace: Workspace) -> None:
    plain = ingest(FolderSource(str(folder), labels=None), workspace)
    labelled = ingest(FolderSource(str(folder), labels="folder"), workspace, previous=plain)
    assert labelled.id != plain.id
    assert labelled.images_id == plain.images_id
    assert set(labelled.table(["label"])["label"].to_pylist()) == {"even", "odd"}
    assert labelled.preview(3) == plain.preview(3)


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


def test_unreadable_images_keep_their_rows(folder: Path, workspace: Workspace) -> None:
    (folder / "a.jpg").write_bytes(b"no image at all")
    whole = (folder / "odd" / "0001.png").read_bytes()
    (folder / "b.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.gif").write_bytes(b"")
    dataset = ingest(str(folder), workspace)
    rows = dataset.rows(range(3)).to_pylist()
    assert [row["uri"] for row in rows[:2]] == ["a.jpg", "b.png"]
    for row in dataset.table().to_pylist():
        bad = row["uri"] in ("a.jpg", "b.png", "empty.gif")
        assert (row["digest"] == NULL_DIGEST) == (row["error"] is not None) == bad
        if bad:
            assert row["width"] is row["height"] is row["preview_pack"] is None
            assert row["error"].isprintable()
            assert len(row["error"]) <= ingestion.MAX_ERROR_LENGTH
            assert str(folder) not in row["error"]
            assert row["bytes"] == (folder / row["uri"]).stat().st_size
    source = Counting(FolderSource(str(folder)))
    assert ingest(source, workspace, previous=dataset) == dataset
    assert source.read == []


def test_a_huge_file_is_not_even_read(
    folder: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / "huge.jpg").open("wb") as file:
        file.truncate(300 * 2**20)
    whole = Folder.read

    def read(self: Folder, path: str, *part: int) -> bytes:
        assert path != "huge.jpg"
        return whole(self, path, *part)

    monkeypatch.setattr(Folder, "read", read)
    dataset = ingest(str(folder), workspace)
    row = dataset.table(["uri", "error", "bytes"]).to_pylist()[6]
    assert (row["uri"], row["bytes"]) == ("huge.jpg", 300 * 2**20)
    assert "at most" in row["error"]


def test_an_image_that_vanishes_stops_the_ingest(folder: Path, workspace: Workspace) -> None:
    source = Counting(FolderSource(str(folder)), "odd/0001.png", NotFoundError("gone"))
    with pytest.raises(NotFoundError, match="gone"):
        ingest(source, workspace)
    assert finished(workspace) == []


def test_empty_sources_are_refused(tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    for path, why in (
        ("empty", "holds no image"),
        ("not-there", "is not there"),
        ("empty/notes.txt", "holds no image"),
    ):
        with pytest.raises(SourceError, match=why):
            ingest(str(tmp_path / path), workspace)
    assert not workspace.exists("datasets")


def test_progress_counts_every_image(folder: Path, workspace: Workspace) -> None:
    told: list[Progress] = []
    ingest(str(folder), workspace, progress=told.append)
    assert told == [Progress("ingest", n + 1, 12, "images") for n in range(12)]


def test_the_look_ahead_is_bounded() -> None:
    begun = 0

    def tasks() -> Iterator[tuple[int]]:
        nonlocal begun
        for begun in itertools.count():
            yield (begun,)

    results = ingestion._in_order(lambda number: number, tasks(), 3)  # type: ignore[arg-type]
    for number in range(100):
        assert next(results) == number
        assert begun - number < 3 * ingestion.LOOK_AHEAD
    results.close()  # type: ignore[attr-defined]


def test_no_local_path_is_in_anything_but_the_hint(folder: Path, workspace: Workspace) -> None:
    (folder / "bad.jpg").write_bytes(b"junk")
    ingest(str(folder), workspace)
    for key, data in objects(workspace).items():
        assert (str(folder).encode() in data) == key.endswith("source.json")


def test_rows_of_many_packs_and_row_groups(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    buffer = io.BytesIO()
    Image.new("L", (2, 2)).save(buffer, "BMP")
    for number in range(2050):
        (tmp_path / "in" / f"{number:04d}.bmp").write_bytes(buffer.getvalue() + b"%d" % number)
    workspace = Workspace.at(str(tmp_path / "w"))
    dataset = ingest(str(tmp_path / "in"), workspace)
    packs = dataset.table(["preview_pack"])["preview_pack"].to_pylist()
    assert packs == [row // 1024 for row in range(2050)]
    for row in (0, 1023, 1024, 2049):
        assert Image.open(io.BytesIO(dataset.preview(row))).size == (2, 2)
    assert open_dataset(workspace, dataset.id) == dataset


def test_reused_previews_are_read_one_by_one_or_in_whole_packs(
    folder: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = ingest(str(folder), workspace)
    records = staging.records_of(dataset)
    few = staging.gather_previews(workspace, dataset, records.slice(0, 3))
    all_of_them = staging.gather_previews(workspace, dataset, records)
    assert few == all_of_them[:3] == [dataset.preview(row) for row in range(3)]


@pytest.mark.parametrize(
    "kind",
    [pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("s", "Europe/Berlin"),
     pa.timestamp("us", "+02:00"), pa.timestamp("ns"), pa.float16(), pa.float32(), pa.uint8(),
     pa.int8(), pa.uint64(), pa.bool_(), pa.null(), pa.large_string(), pa.list_(pa.timestamp("s")),
     pa.list_(pa.date32()), pa.list_(pa.int16(), 2), pa.large_list(pa.large_string()),
     pa.list_(pa.field("item", pa.int64(), nullable=False))],
)  # fmt: skip
def test_every_type_of_metadata_can_be_read_again(
    folder: Path, workspace: Workspace, kind: pa.DataType
) -> None:
    paths = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    table = pa.table({"path": paths, "given": pa.nulls(len(paths), kind)})
    pq.write_table(table, folder / "table.parquet")
    dataset = ingest(str(folder / "table.parquet"), workspace)
    assert dataset.table(["given"])["given"].null_count in (0, 12)
