"""Opening datasets of unknown provenance, and reading rows, previews and images."""

import io
import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import write_photos
from PIL import Image

from vfs_ops.datasets import dataset, manifests, previews
from vfs_ops.datasets.dataset import Dataset, folder_of, open_dataset
from vfs_ops.datasets.folders import FolderSource
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.datasets.manifests import OWN_COLUMNS, open_manifest
from vfs_ops.datasets.metadata import normal_metadata, rows_digest
from vfs_ops.datasets.sources import Files
from vfs_ops.errors import (
    DamagedError,
    ImageChangedError,
    ImageError,
    InputError,
    InvalidNameError,
    InvalidUrlError,
    NewerFormatError,
    NotFoundError,
    PredicateError,
    SourceError,
)
from vfs_ops.identity.canonical import canonical_json, document_id
from vfs_ops.images.decoding import decode_image
from vfs_ops.store.locations import Folder
from vfs_ops.store.ranged import open_ranged
from vfs_ops.store.workspace import Workspace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 7)
    (tmp_path / "photos" / "broken.png").write_bytes(b"junk")
    return tmp_path / "photos"


@pytest.fixture
def mine(folder: Path, workspace: Workspace) -> Dataset:
    return ingest(FolderSource(str(folder), labels="folder"), workspace)


def test_opening_gives_what_ingest_gave(mine: Dataset, workspace: Workspace) -> None:
    again = open_dataset(workspace, mine.id)
    assert again == mine
    assert again.count == 8
    assert again.images_id == mine.images_id
    assert again.table().equals(mine.table())
    assert again.column_names() == OWN_COLUMNS.names


def test_datasets_survive_pickling(mine: Dataset) -> None:
    again = pickle.loads(pickle.dumps(mine))
    assert again.rows([1]).equals(mine.rows([1]))
    assert len({again, mine}) == 1


def test_columns_come_in_the_order_asked_for(mine: Dataset) -> None:
    assert mine.table(["label", "uri"]).column_names == ["label", "uri"]
    assert mine.rows([0], ["width", "uri"]).column_names == ["width", "uri"]
    with pytest.raises(InputError, match="no column 'nope'"):
        mine.table(["nope"])


@given(st.data())
@settings(max_examples=60)
def test_rows_agree_with_the_whole_table(data: st.DataObject) -> None:
    count, group = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 8))
    columns = {field.name: pa.nulls(count, field.type) for field in OWN_COLUMNS}
    columns["uri"] = pa.array([f"{n}.png" for n in range(count)])
    columns["digest"] = pa.array([bytes([n + 1]) * 32 for n in range(count)], pa.binary(32))
    columns["width"] = columns["height"] = pa.array([5] * count, pa.int32())
    table = pa.table(columns, schema=OWN_COLUMNS)
    workspace = Workspace.in_memory()
    workspace.create("m", manifests.encode_parquet(table, group))
    manifest = open_manifest(workspace, "m")
    wanted = data.draw(st.lists(st.integers(0, count - 1), max_size=12))
    assert manifest.take(wanted).to_pylist() == [table.slice(n, 1).to_pylist()[0] for n in wanted]
    for outside in (-1, count):
        with pytest.raises(InputError, match="expected 0 to"):
            manifest.take([outside])


def test_few_rows_read_few_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    count = 3000
    columns = {field.name: pa.nulls(count, field.type) for field in OWN_COLUMNS}
    columns["uri"] = pa.array([random.bytes(100).hex() for _ in range(count)])
    columns["digest"] = pa.array([random.bytes(32) for _ in range(count)], pa.binary(32))
    columns["width"] = columns["height"] = pa.array([5] * count, pa.int32())
    workspace = Workspace.in_memory()
    workspace.create("m", manifests.encode_parquet(pa.table(columns, schema=OWN_COLUMNS), 100))
    manifest = open_manifest(workspace, "m")
    read, whole = [], Folder.read

    def counting(self: Folder, *place: Any, **bounds: int) -> bytes:
        data = whole(self, *place, **bounds)
        read.append(len(data))
        return data

    monkeypatch.setattr(Workspace, "read", counting)
    monkeypatch.setattr("vfs_ops.store.ranged.BUFFER_BYTES", 4096)
    expected = manifest.take([1234, 2])
    assert expected.num_rows == 2
    assert sum(read) < manifest.size / 5
    table = manifest.read(["uri", "width"])
    for bound in (1 << 28, 1 << 10):  # decoded, and as the file
        monkeypatch.setattr(manifests, "HELD_BYTES", bound)
        loaded = manifest.loaded()
        assert (loaded.table is None) == (bound < loaded.size)
        read.clear()
        assert loaded.take([1234, 2]).equals(expected)
        assert loaded.read(["uri", "width"]).equals(table)
        assert read == []
        with pytest.raises(InputError, match="0 to 2999"):
            loaded.take([3000])


def test_digests_are_checked_against_the_images_id(mine: Dataset, workspace: Workspace) -> None:
    digests = mine.digests()
    assert digests.shape == (8, 32)
    assert digests.dtype == np.uint8
    assert (
        digests.any(axis=1) == [uri != "broken.png" for uri in mine.table()["uri"].to_pylist()]
    ).all()
    table = mine.table()
    swapped = table.take([1, 0, *range(2, 8)])
    workspace.replace(mine.manifest.key, manifests.encode_manifest(swapped))
    with pytest.raises(DamagedError, match="images id"):
        open_dataset(workspace, mine.id).digests()


def test_previews(mine: Dataset) -> None:
    for row, uri in enumerate(mine.table(["uri"])["uri"].to_pylist()):
        if uri == "broken.png":
            with pytest.raises(NotFoundError, match="no preview"):
                mine.preview(row)
        else:
            image = Image.open(io.BytesIO(mine.preview(row)))
            assert (image.format, image.size, image.getexif()) == ("JPEG", (64, 48), {})
    with pytest.raises(InputError):
        mine.preview(8)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1000, 500), (256, 128)),
        ((30, 20), (30, 20)),
        ((5000, 1), (256, 1)),
        ((256, 257), (255, 256)),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_preview_is_never_larger_than_its_side(
    size: tuple[int, int], expected: tuple[int, int], mode: str
) -> None:
    preview = Image.open(io.BytesIO(previews.encode_preview(Image.new(mode, size))))
    assert (preview.size, preview.mode) == (expected, mode)


def test_a_cut_off_pack_is_noticed(mine: Dataset, workspace: Workspace) -> None:
    key = previews.pack_key(folder_of(mine.id), 0)
    workspace.replace(key, workspace.read(key)[:-10])
    with pytest.raises(DamagedError, match="preview"):
        mine.preview(7)


def test_where(mine: Dataset) -> None:
    labels = mine.table(["label"])["label"].to_pylist()
    assert mine.where([("label", "==", "even")]).tolist() == [x == "even" for x in labels]
    assert mine.where(None).tolist() == [True] * 8
    with pytest.raises(PredicateError, match="did you mean label"):
        mine.where([("labels", "==", "even")])


def test_reading_images(mine: Dataset, folder: Path, tmp_path: Path) -> None:
    reader = mine.reader()
    uris = mine.table(["uri"])["uri"].to_pylist()
    with ThreadPoolExecutor(8) as executor:
        rows = [row for row in range(8) if uris[row] != "broken.png"] * 5
        for row, image in zip(rows, executor.map(reader.read, rows), strict=True):
            assert image == decode_image((folder / uris[row]).read_bytes())
    with pytest.raises(ImageError, match=r"broken\.png: "):
        reader.read(uris.index("broken.png"))
    for outside in (-1, 8):
        with pytest.raises(InputError):
            reader.read(outside)
    shutil.move(folder, tmp_path / "moved")
    with pytest.raises(NotFoundError):
        reader.read(1)
    for images in (
        str(tmp_path / "moved"),
        tmp_path / "moved",
        FolderSource(str(tmp_path / "moved")),
    ):
        assert mine.reader(images).read(1).size == (64, 48)
    assert mine.reader(Files(Folder.at(str(tmp_path / "moved")))).read(1).size == (64, 48)


def test_images_that_changed_are_refused(mine: Dataset, folder: Path) -> None:
    uris = mine.table(["uri"])["uri"].to_pylist()
    shutil.copy(folder / uris[2], folder / uris[1])
    (folder / uris[3]).write_bytes(b"junk")
    for row in (1, 3):
        with pytest.raises(ImageChangedError, match="ingest again"):
            mine.reader().read(row)


def test_reading_goes_over_many_blocks(mine: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "ROW_GROUP_ROWS", 1)
    reader = mine.reader()
    good = [
        row for row, error in enumerate(mine.table(["error"])["error"].to_pylist()) if not error
    ]
    assert [reader.read(row).size for row in [*good, *good]] == [(64, 48)] * 14
    assert len(reader._blocks) <= 5


@pytest.mark.parametrize(
    ("origin", "error"),
    [
        ({"kind": "files", "root": "ftp://host/x"}, InvalidUrlError),
        ({"kind": "files", "root": "https://a:b@host/x"}, InvalidUrlError),
        ({"kind": "files", "root": "zip://x::file:///etc"}, InvalidUrlError),
        ({"kind": "files", "root": 5}, SourceError),
        ({"kind": "pickle", "root": "file:///x"}, SourceError),
        ({"kind": "object", "name": "x"}, SourceError),
        ({}, SourceError),
        ({"kind": "elsewhere", "digest": "0" * 64}, SourceError),
        ([], DamagedError),
    ],
)
def test_where_images_were_is_not_trusted(
    mine: Dataset, workspace: Workspace, origin: object, error: type[Exception]
) -> None:
    workspace.replace(f"{folder_of(mine.id)}/source.json", json.dumps(origin).encode())
    with pytest.raises(error):
        mine.reader()
    workspace.delete(f"{folder_of(mine.id)}/source.json")
    with pytest.raises(SourceError):
        mine.reader()


def test_a_local_root_counts_only_in_a_local_workspace(mine: Dataset) -> None:
    class Elsewhere(Workspace):
        @property
        def protocol(self) -> str:
            return "s3"

    class Here(Elsewhere):
        filesystem = mine.workspace.filesystem

    distant = Dataset(Here(mine.workspace.url), mine.id, mine.document, mine.manifest)
    with pytest.raises(SourceError, match="images=FOLDER"):
        distant.reader()


@pytest.mark.parametrize(
    "uri", ["../secret.png", "/etc/passwd", "a//b", "ftp://h/x", "file:///etc/x"]
)
def test_paths_in_a_manifest_stay_in_their_root(
    mine: Dataset, workspace: Workspace, uri: str
) -> None:
    table = mine.table()
    uris = pa.array([uri] * 8, pa.string())
    changed = table.set_column(0, OWN_COLUMNS.field("uri"), uris)
    workspace.replace(mine.manifest.key, manifests.encode_manifest(changed))
    with pytest.raises((InvalidNameError, InvalidUrlError)):
        open_dataset(workspace, mine.id).reader().read(1)


def rewrite(workspace: Workspace, dataset: Dataset, **changes: Any) -> str:
    """Store a changed document as a dataset of its own, and return its id."""
    document = {**dataset.document, **changes}
    new = document_id(document)
    for stat in workspace.walk(folder_of(dataset.id)):
        target = stat.path.replace(dataset.id, new)
        workspace.create(target, workspace.read(stat.path))
    workspace.replace(f"{folder_of(new)}/dataset.json", canonical_json(document))
    return new


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"format": 2}, NewerFormatError),
        ({"format": "1"}, NewerFormatError),
        ({"kind": "cache"}, DamagedError),
        ({"count": 9}, DamagedError),
        ({"count": "8"}, DamagedError),
        ({"columns": [["x", "int64"]]}, DamagedError),
        ({"images": 5}, DamagedError),
    ],
)
def test_documents_are_checked(
    mine: Dataset, workspace: Workspace, changes: dict[str, Any], error: type[Exception]
) -> None:
    new = rewrite(workspace, mine, **changes)
    with pytest.raises(error):
        open_dataset(workspace, new)


def test_a_document_that_is_not_of_its_id_is_refused(mine: Dataset, workspace: Workspace) -> None:
    key = f"{folder_of(mine.id)}/dataset.json"
    other = canonical_json({**mine.document, "rows": "0" * 64})
    deep = b'{"kind":' + b"[" * 500 + b"]" * 500 + b"}"
    for data in (other, b"{", b"[]", b"\xff", b"[" * 100_000, deep, b'{"count": NaN}'):
        workspace.replace(key, data)
        with pytest.raises((DamagedError, NewerFormatError)):
            open_dataset(workspace, mine.id)


def test_manifests_are_checked(mine: Dataset, workspace: Workspace) -> None:
    table, whole = mine.table(), workspace.read(mine.manifest.key)
    for data in (
        b"",
        b"junk",
        whole[:-20],
        manifests.encode_manifest(table.slice(1)),
        manifests.encode_manifest(table.drop_columns(["digest"])),
        manifests.encode_manifest(table.set_column(2, "width", pa.nulls(8, pa.int64()))),
        manifests.encode_manifest(table.append_column("more", pa.nulls(8, pa.int64()))),
        manifests.encode_manifest(table.append_column("byte_offset", pa.nulls(8, pa.string()))),
    ):
        workspace.replace(mine.manifest.key, data)
        with pytest.raises(DamagedError):
            open_dataset(workspace, mine.id)
    corrupt = bytearray(whole)
    corrupt[4:200] = bytes(196)
    workspace.replace(mine.manifest.key, bytes(corrupt))
    with pytest.raises(DamagedError):
        open_dataset(workspace, mine.id).table()


def test_what_is_not_there(mine: Dataset, workspace: Workspace) -> None:
    with pytest.raises(NotFoundError, match="no dataset"):
        open_dataset(workspace, "0" * 64)
    for name in ("../x", "", "A" * 64, mine.id[:-1]):
        with pytest.raises(InvalidNameError):
            open_dataset(workspace, name)
    workspace.delete(f"{folder_of(mine.id)}/dataset.json")
    with pytest.raises(NotFoundError):
        open_dataset(workspace, mine.id)


def test_the_digest_of_rows_does_not_depend_on_arrow() -> None:
    base = pa.table(
        {
            "uri": ["a", "b", "c"],
            "label": [None, "x", "y"],
            "list": pa.array([[1.5, float("nan")], None, []], pa.list_(pa.float32())),
            "half": pa.array([0.0999755859375, np.inf, -0.0], pa.float32()),
            "time": pa.array([0, 1, None], pa.timestamp("ns", "UTC")),
        }
    )
    names = ["list", "half", "time"]
    pinned = "0a43c4614e15ae8a8ba04d19ce3bbedd691b8b62a2c5834a3664a6f197ada7d7"
    assert rows_digest(base, names) == pinned
    chunks = pa.concat_tables([base.slice(0, 1), base.slice(1)])
    assert rows_digest(chunks, names) == pinned
    sink = io.BytesIO()
    pq.write_table(base, sink, row_group_size=2, use_compliant_nested_type=False)
    assert rows_digest(pq.read_table(sink), names) == pinned
    assert rows_digest(base, ["half", "list", "time"]) == pinned  # an object: its keys are sorted
    assert rows_digest(base.slice(0, 2), names) != pinned


def test_columns_named_like_our_own_are_renamed() -> None:
    table = normal_metadata(pa.table({"uri": [1], "x": [2]}), frozenset({"uri"}))
    assert table.column_names == ["meta.uri", "x"]


@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 50))))
def test_ranged_reading_agrees_with_a_file(data: bytes, reads: list[tuple[int, int]]) -> None:
    folder = Folder.at("memory://test-ranged")
    folder.filesystem.pipe_file(folder.path_of("f"), data)
    ranged, plain = open_ranged(folder, "f"), io.BytesIO(data)
    for start, length in reads:
        assert ranged.seek(start) == plain.seek(start)
        assert ranged.read(length) == plain.read(length)
        assert ranged.tell() == plain.tell()
    assert ranged.seek(0, io.SEEK_END) == len(data)
    with pytest.raises(ValueError, match="seek"):
        ranged.seek(-1)
