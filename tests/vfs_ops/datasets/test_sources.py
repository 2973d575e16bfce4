"""Folders, tables, tar shards and Python datasets: what they list and what they refuse."""

import io
import tarfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vfs_ops.datasets import sources, tabular
from vfs_ops.datasets.folders import FolderSource
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.datasets.objects import ObjectSource, torchvision_source
from vfs_ops.datasets.source_kinds import as_source
from vfs_ops.datasets.sources import Listing, Place
from vfs_ops.datasets.tables import TableSource
from vfs_ops.datasets.tars import TarSource
from vfs_ops.errors import (
    AccessError,
    ImageError,
    InvalidUrlError,
    NotFoundError,
    SourceError,
    StorageError,
)
from vfs_ops.store.file_stats import FileStat
from vfs_ops.store.locations import Folder
from vfs_ops.store.workspace import Workspace


def picture(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (3, 2), shade).save(buffer, "PNG")
    return buffer.getvalue()


def write(root: Path, *names: str) -> Path:
    for shade, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(shade))
    return root


def uris(listing: Listing) -> list[str]:
    return listing.table["uri"].to_pylist()


def labels(listing: Listing) -> list[str | None]:
    return listing.table["label"].to_pylist()


# --- folders ---


def test_a_folder_lists_images_by_extension_in_code_point_order(tmp_path: Path) -> None:
    wanted = ["B.JPG", "a.png", "a/é ü.webp", "a/b/c.TIFF", "z\u202fpm.gif"]
    write(
        tmp_path, *wanted, "notes.txt", "png", ".hidden.png", "._a.png", ".dir/x.png", "a.png.bak"
    )
    listing = FolderSource(str(tmp_path)).listing()
    assert uris(listing) == sorted(wanted)
    assert listing.origin == {"kind": "files", "root": f"file://{tmp_path}"}
    assert listing.table["bytes"].to_pylist() == [
        (tmp_path / uri).stat().st_size for uri in uris(listing)
    ]


def test_links_to_files_count_and_broken_ones_are_named(tmp_path: Path) -> None:
    write(tmp_path / "store", "one.png")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "store" / "one.png")
    (folder / ".#lock").symlink_to("nobody")  # broken, and no image
    (folder / "round").symlink_to(tmp_path / "in")
    assert uris(FolderSource(str(folder)).listing()) == ["link.png"]
    (folder / "broken.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(NotFoundError, match=r"broken\.png"):
        ingest(str(folder), Workspace.in_memory())


def test_names_that_no_manifest_can_hold_are_refused(tmp_path: Path) -> None:
    for name in (b"new\nline.png", b"\xff\xfe.png"):
        folder = tmp_path / f"in{len(name)}"
        folder.mkdir()
        with open(bytes(folder) + b"/" + name, "wb") as file:
            file.write(picture())
        with pytest.raises(SourceError, match="rename"):
            FolderSource(str(folder)).listing()


def test_labels_from_folders(tmp_path: Path) -> None:
    write(tmp_path, "top.png", "cat/1.png", "zoo/dog/2.png")
    assert labels(FolderSource(str(tmp_path), labels="folder").listing()) == ["cat", None, "dog"]


def test_labels_from_a_table_by_path_or_name(tmp_path: Path) -> None:
    write(tmp_path / "in", "x/a.png", "y/a.png", "y/b.png", "c.png")
    table = tmp_path / "labels.csv"
    table.write_text("file,label,year\nb.png,bee,2001\nx/a.png,007,2002\nc.png,,2003\n")
    listing = FolderSource(str(tmp_path / "in"), labels=str(table)).listing()
    assert dict(zip(uris(listing), labels(listing), strict=True)) == {
        "c.png": None,
        "x/a.png": "007",
        "y/a.png": None,
        "y/b.png": "bee",
    }
    assert listing.table["year"].to_pylist() == [2003, 2002, None, 2001]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\na.png,1\ngone.png,2\n", "names 1 images that are not there, such as 'gone"),
        ("file,label\nd.png,1\n", "2 images have that name"),
        ("file,label\na.png,1\na.png,2\n", "two rows for 'a.png'"),
        ("file,label\na.png,1\n,2\n", "(empty)"),
        ("name,label\na.png,1\n", "expected one of uri"),
        ("", "cannot be read"),
        ("file,file\na.png,1\n", "same name"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path / "in", "a.png", "x/d.png", "y/d.png")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(SourceError) as caught:
        FolderSource(str(tmp_path / "in"), labels=str(tmp_path / "labels.csv")).listing()
    assert said in str(caught.value)


def test_a_folder_of_another_file_system() -> None:
    folder = Folder.at("memory://test-sources/photos")
    for name in ("b/1.png", "a.png"):
        folder.filesystem.pipe_file(folder.path_of(name), picture())
    dataset = ingest("memory://test-sources/photos", Workspace.in_memory())
    assert dataset.table(["uri"])["uri"].to_pylist() == ["a.png", "b/1.png"]
    assert dataset.reader().read(1).size == (3, 2)


# --- tables ---


def test_a_csv_with_metadata_of_many_types(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "sub/b.png")
    (tmp_path / "t.csv").write_text(
        "\ufefflabel,path,width,day,boxes,text,part\n"
        '01,a.png,5,2024-05-01,"[[1, 2, 3.5, 4]]","say ""hi"",\nthere",[x]\n'
        ",./sub/b.png,,,,,[y]\n"
    )
    listing = as_source(str(tmp_path / "t.csv")).listing()
    assert uris(listing) == ["a.png", "sub/b.png"]
    assert labels(listing) == ["01", None]
    assert listing.table.column_names[3:] == ["meta.width", "day", "boxes", "text", "part"]
    assert listing.table.slice(0, 1).to_pylist()[0] == {
        "uri": "a.png",
        "label": "01",
        "bytes": len(picture()),
        "meta.width": 5,
        "day": datetime(2024, 5, 1),
        "boxes": [[1.0, 2.0, 3.5, 4.0]],
        "text": 'say "hi",\nthere',
        "part": "[x]",
    }
    assert listing.table["boxes"].null_count == listing.table["text"].null_count == 1


def test_a_parquet_table_with_boxes(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png")
    boxes = [[[0.0, 0.0, 1.0, 1.0]], []]
    kinds = pa.array(["x", "y"]).dictionary_encode()
    table = pa.table({"image": ["b.png", "a.png"], "boxes": boxes, "kind": kinds, "label": [3, 4]})
    table = table.append_column("half", pa.array([0.5, 1], pa.float16()))
    pq.write_table(table, tmp_path / "t.parquet")
    listing = TableSource(str(tmp_path / "t.parquet")).listing()
    assert uris(listing) == ["b.png", "a.png"]
    assert labels(listing) == ["3", "4"]
    assert listing.table["boxes"].to_pylist() == boxes
    assert listing.table["kind"].type == pa.string()
    assert listing.table["half"].type == pa.float32()
    dataset = ingest(str(tmp_path / "t.parquet"), Workspace.in_memory())
    assert dataset.table(["boxes"])["boxes"].to_pylist() == boxes
    assert dataset.where([("kind", "==", "y")]).tolist() == [False, True]


def test_list_columns_are_named_one_way_whoever_wrote_them(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    table = pa.table({"path": ["a.png"], "boxes": [[[1.0, 2.0]]]})
    ids = set()
    for options in ({}, {"store_schema": False}, {"use_compliant_nested_type": False}):
        pq.write_table(table, tmp_path / "t.parquet", **options)
        dataset = ingest(str(tmp_path / "t.parquet"), Workspace.in_memory())
        assert dataset.document["columns"] == [["boxes", "list<item: list<item: double>>"]]
        ids.add(dataset.id)
    assert len(ids) == 1


def test_columns_may_be_named(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "t.tsv").write_text("name\tfile\tclass\na.png\tzzz\t1\n")
    source = TableSource(str(tmp_path / "t.tsv"), path_column="name", label_column="class")
    listing = source.listing()
    assert (uris(listing), labels(listing)) == (["a.png"], ["1"])
    assert listing.table.column_names == ["uri", "label", "bytes", "file"]


def test_absolute_local_paths_become_relative_to_their_common_parent(tmp_path: Path) -> None:
    write(tmp_path / "x y", "one/a.png", "two/b.png", "c.png")
    rows = [f"{tmp_path}/x y/one/a.png", f"file://{tmp_path}/x%20y/two/b.png", "c.png"]
    (tmp_path / "x y" / "t.csv").write_text("path\n" + "\n".join(rows) + "\n")
    dataset = ingest(str(tmp_path / "x y" / "t.csv"), Workspace.in_memory())
    assert dataset.table(["uri"])["uri"].to_pylist() == ["one/a.png", "two/b.png", "c.png"]
    assert dataset.reader().read(1).getpixel((0, 0)) == 1


def test_remote_urls_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.png")
    remote = "https://images.test/x/b.png"
    (tmp_path / "t.csv").write_text(f"path\n{remote}\na.png\n")
    monkeypatch.setattr(sources, "read_url", lambda url, limit: {remote: picture(9)}[url])
    asked = []
    stat = FileStat(remote, len(picture(9)), "etag:1")
    monkeypatch.setattr(sources, "stat_url", lambda url: asked.append(url) or stat)
    dataset = ingest(str(tmp_path / "t.csv"), Workspace.in_memory())
    assert dataset.table(["uri"])["uri"].to_pylist() == [remote, "a.png"]
    assert asked == [remote]
    assert dataset.reader().read(0).getpixel((0, 0)) == 9
    monkeypatch.delattr(sources, "read_url")  # an unchanged ETag: not read again
    assert ingest(str(tmp_path / "t.csv"), Workspace.in_memory(), previous=dataset).id == dataset.id


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("../a.png", SourceError),
        ("/x/../../etc/passwd", SourceError),
        ("", SourceError),
        ("./", SourceError),
        ("file://elsewhere/a.png", SourceError),
        ("ftp://host/a.png", InvalidUrlError),
        ("memory://host/a.png", InvalidUrlError),
        ("https://user:pass@host/a.png", InvalidUrlError),
        ("https://host/a.png?X-Amz-Signature=1", InvalidUrlError),
        ("zip://a.png::https://host/b.zip", InvalidUrlError),
        ("gone.png", NotFoundError),
    ],
)
def test_paths_that_lead_nowhere_good_are_refused(
    tmp_path: Path, path: str, error: type[Exception]
) -> None:
    pq.write_table(pa.table({"path": [path]}), tmp_path / "t.parquet")
    with pytest.raises(error):
        TableSource(str(tmp_path / "t.parquet")).listing()


def test_a_table_elsewhere_may_not_name_local_files(tmp_path: Path) -> None:
    write(tmp_path, "secret.png")
    folder = Folder.at("memory://test-tables")
    for path in (f"{tmp_path}/secret.png", f"file://{tmp_path}/secret.png"):
        folder.filesystem.pipe_file(folder.path_of("t.csv"), f"path\n{path}\n".encode())
        with pytest.raises(SourceError, match="only a local table"):
            TableSource("memory://test-tables/t.csv").listing()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"path": ["a.png"], "data": [{"x": 1}]}, "column 'data' has type struct"),
        ({"path": ["a.png"], "data": [b"x"]}, "has type binary"),
        ({"path": ["a.png"], "bad\nname": [1]}, "cannot be the name of a column"),
        ({"path": ["a.png"], "x" * 201: [1]}, "cannot be the name of a column"),
        ({"path": ["a.png"], "meta.width": [1], "width": [2]}, "same name"),
        ({"path": ["a.png"], "deep": [[[[[1]]]]]}, "has type list"),
        ({"path": pa.array([], pa.string())}, "no rows"),
        ({"path": [["a.png"]]}, "is no text"),
        ({"photo": ["a.png"]}, "say which column"),
    ],
)
def test_tables_that_cannot_be_stored_are_refused(
    tmp_path: Path, columns: dict[str, Any], said: str
) -> None:
    write(tmp_path, "a.png")
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=said):
        TableSource(str(tmp_path / "t.parquet")).listing()


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nonsense PAR1")
    (tmp_path / "t.csv").write_bytes(b"path\n\xff\xfe\n")
    (tmp_path / "u.csv").write_text("path,x\na\n1,2,3\n")
    for name in ("t.parquet", "t.csv", "u.csv"):
        with pytest.raises(SourceError, match="cannot be read"):
            TableSource(str(tmp_path / name)).listing()
    with pytest.raises(NotFoundError):
        TableSource(str(tmp_path / "none.csv")).listing()
    (tmp_path / "t.xlsx").write_bytes(b"")
    with pytest.raises(SourceError, match="is no table"):
        TableSource(str(tmp_path / "t.xlsx")).listing()
    (tmp_path / "v.csv").write_text("path\na.png\n")
    with pytest.raises(SourceError, match="no column 'nope'"):
        TableSource(str(tmp_path / "v.csv"), label_column="nope").listing()


def test_splitting_urls() -> None:
    assert tabular.split_url("/t.csv") == (Folder("file:///"), "t.csv")
    assert tabular.split_url("s3://bucket/t.csv") == (Folder("s3://bucket"), "t.csv")
    with pytest.raises(SourceError):
        tabular.split_url("https://host")


# --- tar shards ---


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, **options) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_shards(tmp_path: Path, kind: int) -> None:
    long = "x" * 60 + "/" + "y" * 90
    one = {
        "a/0.cls": b"7\n",
        "a/0.jpg": picture(1),
        "a/0.json": b'{"score": 0.5, "width": 9, "tags": ["p", "q"]}',
        "a/1.seg.png": b"no image of its own",
        "a/1.PNG": picture(2),
        "a/1.txt": "Grüße".encode(),
        "a/2.txt": b"without an image",
    }
    write_tar(tmp_path / "s" / "00.tar", one, format=kind)
    write_tar(tmp_path / "s" / "01.tar", {f"{long}.png": picture(3)}, format=kind)
    dataset = ingest(TarSource(str(tmp_path / "s")), Workspace.in_memory())
    table = dataset.table()
    assert table["uri"].to_pylist() == ["00.tar#a/0.jpg", "00.tar#a/1.PNG", f"01.tar#{long}.png"]
    assert table["label"].to_pylist() == ["7", None, None]
    assert table["score"].to_pylist() == [0.5, None, None]
    assert table["meta.width"].to_pylist() == [9, None, None]
    assert table["tags"].to_pylist() == [["p", "q"], None, None]
    assert table["txt"].to_pylist() == [None, "Grüße", None]
    reader = dataset.reader()
    assert [reader.read(row).getpixel((0, 0)) for row in range(3)] == [1, 2, 3]
    moved = tmp_path / "elsewhere"
    (tmp_path / "s").rename(moved)
    assert dataset.reader(str(moved)).read(2).getpixel((0, 0)) == 3
    alone = as_source(str(moved / "01.tar")).listing()
    assert uris(alone) == [f"01.tar#{long}.png"]


@pytest.mark.parametrize(
    ("mode", "command"), [("w:gz", "gunzip"), ("w:bz2", "bunzip2"), ("w:xz", "unxz")]
)
def test_compressed_tars_are_refused(tmp_path: Path, mode: str, command: str) -> None:
    write_tar(tmp_path / "a.tar", {"0.png": picture()}, mode)
    with pytest.raises(SourceError, match=f"unpack it with {command}"):
        TarSource(str(tmp_path / "a.tar")).listing()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"0.txt": b"x"}, "holds no image"),
        ({}, "holds no image"),
        ({"0.png": b"x", "0.jpg": b"y"}, "images of one sample"),
        ({"0.png": b"x", "0.json": b"{"}, "no JSON"),
        ({"0.png": b"x", "0.json": b"[1]"}, "expected a JSON object"),
        ({"0.png": b"x", "0.cls": b"\xff"}, "no UTF-8"),
        ({"0.png": b"x", "0.json": b'{"a": {"b": 1}}'}, "has type struct"),
        ({"0.png": b"", "0.json": b'{"a": 1}', "1.png": b"", "1.json": b'{"a": "x"}'}, "types"),
        ({"0.png": b"x", "0.json": b" " * (2**20 + 1)}, "at most"),
        ({"0.png": b"x", "0.json": b'{"a": 1e999999, "b": 99999999999999999999999}'}, "types"),
        ({"0.png": b"x", "0.json": b'{"a": "\\ud800"}'}, "types"),
    ],
)
def test_shards_that_make_no_sense_are_refused(
    tmp_path: Path, members: Mapping[str, bytes], said: str
) -> None:
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(SourceError, match=said):
        TarSource(str(tmp_path / "a.tar")).listing()


def test_damaged_shards_are_refused(tmp_path: Path) -> None:
    members = {f"{n}.png": picture(n) for n in range(4)}
    data = write_tar(tmp_path / "a.tar", members).read_bytes()
    second = 1024  # header and one block of data each
    for broken in (
        b"no tar at all" * 100,
        data[: second + 100],
        data[: second + 512 + 10],
        data[:second] + b"\x01" * 512 + data[second + 512 :],
    ):
        (tmp_path / "a.tar").write_bytes(broken)
        with pytest.raises(SourceError):
            TarSource(str(tmp_path / "a.tar")).listing()
    (tmp_path / "a.tar").write_bytes(data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512))
    assert len(uris(TarSource(str(tmp_path / "a.tar")).listing())) == 4  # no end mark: as GNU tar


def test_links_and_hashes_in_shards(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("0.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(SourceError, match="holds no image"):
        TarSource(str(tmp_path / "a.tar")).listing()
    write_tar(tmp_path / "b#.tar", {"0.png": picture()})
    with pytest.raises(SourceError, match="rename"):
        TarSource(str(tmp_path / "b#.tar")).listing()


def test_a_shard_cut_off_later_is_noticed(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"0.png": picture()})
    dataset = ingest(str(tmp_path / "a.tar"), Workspace.in_memory())
    with (tmp_path / "a.tar").open("r+b") as file:
        file.truncate(550)
    with pytest.raises(StorageError, match="cut off"):
        dataset.reader().read(0)


# --- Python datasets ---


class Items:
    """A dataset like torchvision's."""

    classes = ("cat", "dog")

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


def test_python_datasets(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 3), (255, 0, 0, 0))
    array = np.zeros((2, 5), np.uint8)
    items = Items((image, 1), (array, "own"), array, (array, [1, 2]), (array, np.int64(0), "more"))
    source = ObjectSource(items, "mine")
    workspace = Workspace.at(str(tmp_path))
    dataset = ingest(source, workspace)
    table = dataset.table()
    assert table["uri"].to_pylist() == [f"mine#{n}" for n in range(5)]
    assert table["label"].to_pylist() == ["dog", "own", None, None, "cat"]
    assert table["width"].to_pylist() == [4, 5, 5, 5, 5]
    assert table["bytes"].null_count == 5
    assert dataset.reader(source).read(0).getpixel((0, 0)) == (255, 255, 255)
    assert ingest(items, workspace).images_id == dataset.images_id
    with pytest.raises(SourceError, match="give the source"):
        dataset.reader()


def test_items_that_cannot_be_decoded_keep_their_rows() -> None:
    good = np.zeros((2, 2), np.uint8)
    truncated = OSError("image file is truncated")
    items = Items(good, np.zeros((2, 2)), truncated, ValueError("odd\nvalue"))
    errors = ingest(items, Workspace.in_memory()).table(["error"])["error"].to_pylist()
    assert errors[0] is None
    assert [word in error for word, error in zip(
        ["float64", "truncated", "odd value"], errors[1:], strict=True
    )] == [True] * 3  # fmt: skip


@pytest.mark.parametrize(
    ("items", "error"),
    [
        (Items(), SourceError),
        (Items("text"), SourceError),
        (Items(PermissionError(13, "no")), AccessError),
    ],
)
def test_python_datasets_that_cannot_be_used(items: Items, error: type[Exception]) -> None:
    with pytest.raises(error):
        ingest(items, Workspace.in_memory())


def test_torchvision_by_name(tmp_path: Path) -> None:
    source = torchvision_source("FakeData", tmp_path)
    assert len(source.items) == 1000
    assert ObjectSource(source.items, "FakeData").fetch(Place("FakeData#3")).label is not None
    for name, options in (
        ("FakeDat", {}),
        ("FakeData", {"split": "train"}),
        ("CIFAR10", {}),
        ("CIFAR10", {"split": "val"}),
        ("wrap_dataset_for_transforms_v2", {}),
    ):
        with pytest.raises(SourceError):
            torchvision_source(name, tmp_path, **options)


def test_torchvision_image_folders_keep_broken_images(tmp_path: Path) -> None:
    write(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "dog" / "c.png").write_bytes(b"junk")
    source = torchvision_source("ImageFolder", tmp_path)
    table = ingest(source, Workspace.in_memory()).table()
    assert table["uri"].to_pylist() == [f"ImageFolder#{n}" for n in range(3)]
    assert table["label"].to_pylist() == ["cat", "dog", None]
    assert table["error"].null_count == 2


# --- what is given ---


def test_as_source() -> None:
    assert as_source("photos") == FolderSource("photos")
    assert as_source(Path("a/t.CSV")) == TableSource("a/t.CSV")
    assert as_source("s3://b/x.tar") == TarSource("s3://b/x.tar")
    assert isinstance(as_source("torchvision:FakeData"), ObjectSource)
    for wrong in (5, b"bytes", {"a": 1}, np.zeros(3)):
        with pytest.raises(SourceError, match="no source of images"):
            as_source(wrong)


def test_relative_places_need_a_root() -> None:
    with pytest.raises(SourceError, match="say in which folder"):
        sources.Files(None).fetch(Place("a.png"))
    with pytest.raises(ImageError, match="at most"):
        sources.Files(None).fetch(Place("a.png", sources.MAX_BYTES + 1))


def test_text_of_a_table_must_be_unicode(tmp_path: Path) -> None:
    offsets = pa.py_buffer(np.array([0, 2], np.int32).tobytes())
    bad = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff\xfe")])
    table = pa.table({"path": pa.array(["odd/0001.png"]), "note": bad})
    pq.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(SourceError, match="cannot be read"):
        TableSource(str(tmp_path / "bad.parquet")).listing()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not there"):
        FolderSource(str(tmp_path / "missing")).listing()
