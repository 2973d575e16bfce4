"""Tar shards: what they list and what they refuse."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from source_files import picture, uris

from vfs_ops.datasets.ingestion import ingest
from vfs_ops.datasets.source_kinds import as_source
from vfs_ops.datasets.tars import TarSource
from vfs_ops.errors import (
    SourceError,
    StorageError,
)
from vfs_ops.store.workspace import Workspace


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
