"""Ingesting a source: what is stored, what is read again, and what interruptions leave behind."""

import io
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from counting import Counting, finished, objects
from PIL import Image

from vfs_ops.datasets import ingestion, staging
from vfs_ops.datasets.dataset import open_dataset
from vfs_ops.datasets.folders import FolderSource
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.datasets.sources import Content
from vfs_ops.errors import (
    NotFoundError,
    SourceError,
)
from vfs_ops.identity.spec import NULL_DIGEST
from vfs_ops.progress import Progress
from vfs_ops.store.locations import Folder
from vfs_ops.store.workspace import Workspace


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

    def read(self: Folder, path: str, *part: int, **bounds: int) -> bytes:
        assert path != "huge.jpg"
        return whole(self, path, *part, **bounds)

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
