import pytest
from PIL import Image

from flows import demo_photos
from flows.demo_photos import PHOTOS, QUERY_PHOTO, cut_tiles, photo_path, tile_boxes


@pytest.mark.parametrize("size", [(600, 400), (451, 300), (512, 512), (7, 900)])
def test_tiles_lie_inside_and_cover_the_photo(size):
    boxes = list(tile_boxes(*size))
    covered = {
        (x, y)
        for left, top, right, bottom in boxes
        for x in range(left, right, 3)
        for y in range(top, bottom, 3)
    }
    assert all(0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1] for box in boxes)
    assert len(covered) > 0.9 * (size[0] / 3) * (size[1] / 3)


def test_the_query_is_not_among_the_tiles():
    assert QUERY_PHOTO not in PHOTOS
    assert all(photo_path(name).exists() for name in (*PHOTOS, QUERY_PHOTO))


def test_tiles_are_cut_once(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_photos, "PHOTOS", ("chelsea.png",))
    seen = []
    cut_tiles(tmp_path, seen.append)
    tiles = sorted(tmp_path.glob("chelsea/*.jpg"))
    assert len(tiles) == len(list(tile_boxes(451, 300)))
    with Image.open(tiles[0]) as tile:
        assert tile.size == (300, 300)
    tiles[0].write_bytes(b"kept")
    cut_tiles(tmp_path, seen.append)
    assert tiles[0].read_bytes() == b"kept"
    assert seen[-1].done == seen[-1].total == 1
