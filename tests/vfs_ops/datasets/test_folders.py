"""Folders of images: what they list and what they refuse."""

from pathlib import Path

import pytest
from source_files import labels, picture, uris, write

from vfs_ops.datasets.folders import FolderSource
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import (
    NotFoundError,
    SourceError,
)
from vfs_ops.store.locations import Folder
from vfs_ops.store.workspace import Workspace


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


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not there"):
        FolderSource(str(tmp_path / "missing")).listing()
