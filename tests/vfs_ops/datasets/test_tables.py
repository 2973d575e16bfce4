"""Tables of images: what they list and what they refuse."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import labels, picture, uris, write

from vfs_ops.datasets import sources, tabular
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.datasets.source_kinds import as_source
from vfs_ops.datasets.tables import TableSource
from vfs_ops.errors import (
    InvalidUrlError,
    NotFoundError,
    SourceError,
)
from vfs_ops.store.file_stats import FileStat
from vfs_ops.store.locations import Folder
from vfs_ops.store.workspace import Workspace


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


def test_text_of_a_table_must_be_unicode(tmp_path: Path) -> None:
    offsets = pa.py_buffer(np.array([0, 2], np.int32).tobytes())
    bad = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff\xfe")])
    table = pa.table({"path": pa.array(["odd/0001.png"]), "note": bad})
    pq.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(SourceError, match="cannot be read"):
        TableSource(str(tmp_path / "bad.parquet")).listing()
