import pytest
from PIL import Image

from vfs_ops.errors import ImageError, NotFoundError
from vfs_ops.images.local_files import open_file


def test_a_file_is_read_once_and_decoded(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (3, 2), "red").save(path)
    data, image = open_file(path)
    assert data == path.read_bytes()
    assert image.size == (3, 2)


def test_what_is_wrong_with_a_file_is_told_by_its_name(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ImageError, match=r"^image .*notes\.txt: no image of a known format"):
        open_file(tmp_path / "notes.txt")
    with pytest.raises(NotFoundError, match=r"none\.png; check the path"):
        open_file(str(tmp_path / "none.png"))
