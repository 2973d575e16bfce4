"""Python datasets: what they list and what they refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from source_files import write

from vfs_ops.datasets.ingestion import ingest
from vfs_ops.datasets.objects import ObjectSource, torchvision_source
from vfs_ops.datasets.sources import Place
from vfs_ops.errors import (
    AccessError,
    SourceError,
)
from vfs_ops.store.workspace import Workspace


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
