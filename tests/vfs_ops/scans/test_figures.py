from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.images.geometry import Frame
from vfs_ops.scans import figures
from vfs_ops.scans.figures import Panel, hits_figure

PREPROCESSING = Preprocessing(resize=Resize("short", (64,)), crop=(56, 56))
WHITE = Image.new("RGB", (128, 64), "white")


UNCROPPED = Frame.of(128, 64, Preprocessing(resize=Resize("exact", (56, 56)), crop=None))


def panel(core: np.ndarray, cell: tuple[int, int] = (2, 1), **changes: object) -> Panel:
    values = {
        "image": WHITE,
        "frame": Frame.of(400, 200, PREPROCESSING),
        "core": core.astype(bool),
        "cell": cell,
        "grid": (7, 7),
        "title": "1    0.9",
        "caption": "a label",
    }
    return Panel(**{**values, **changes})  # type: ignore[arg-type]


def test_a_region_is_located_in_the_preview() -> None:
    lines, inside = figures._located(panel(np.ones((2, 3))), (128, 64))
    box = Frame.of(400, 200, PREPROCESSING).window_box(2, 1, 2, 3, (7, 7))
    left, top, right, bottom = (side * 128 / 400 for side in box)
    points = np.concatenate(lines) + 0.5
    assert points.min(axis=0).tolist() == [left, top]
    assert points.max(axis=0).tolist() == [right, bottom]
    assert len(lines) == 2 * (2 + 3)
    rows, columns = np.nonzero(inside)
    assert (columns.min(), columns.max() + 1) == (round(left), round(right))
    assert (rows.min(), rows.max() + 1) == (round(top), round(bottom))
    assert inside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


def test_the_outline_follows_the_shape_of_the_core() -> None:
    lines, inside = figures._located(panel(np.array([[1, 0], [1, 1]])), (128, 64))
    assert len(lines) == 8
    assert 0.5 < inside.sum() / figures._located(panel(np.ones((2, 2))), (128, 64))[1].sum() < 0.9


def test_a_region_of_the_whole_grid_has_no_outline() -> None:
    lines, inside = figures._located(panel(np.ones((7, 7)), (0, 0)), (128, 64))
    assert lines == []
    np.testing.assert_array_equal(np.nonzero(inside.any(axis=0))[0], np.arange(36, 92))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short", "short"),
        ("two\nlines\x1b[31m", "two lines [31m"),
        ("x" * 12 + "y" * 100 + "z" * 11, "x" * 12 + "…" + "z" * 11),
    ],
)
def test_captions_are_one_short_line(text: str, expected: str) -> None:
    assert figures._short(text) == expected


@pytest.mark.parametrize("count", [0, 1, 5, 10, 20])
def test_pictures_lie_on_the_page_and_do_not_overlap(count: int) -> None:
    mask = np.zeros((64, 128), np.uint8)
    mask[20:40, 30:60] = 255
    panels = [panel(np.ones((2, 2)), caption="$\\frac{ not a formula") for _ in range(count)]
    figure = hits_figure(WHITE, mask, UNCROPPED, panels)
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    boxes = [axes.get_position().extents for axes in figure.axes]
    assert len(boxes) == count + 1
    for number, (left, low, right, high) in enumerate(boxes):
        assert 0 <= left < right <= 1
        assert 0 <= low < high <= 1
        for other in boxes[:number]:
            apart = left >= other[2] or right <= other[0] or low >= other[3] or high <= other[1]
            assert apart


def test_the_highlight_is_brighter_than_what_is_around_it() -> None:
    mask = np.zeros((64, 128), np.uint8)
    mask[16:48, 32:96] = 255
    figure = hits_figure(WHITE, mask, UNCROPPED, [])
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    assert shown[32, 64].min() == 1
    assert shown[4, 4].max() == figures._DIMMED
    assert not figure.axes[0].patches


def test_what_the_model_does_not_see_is_faded_beyond_a_border() -> None:
    mask = np.zeros((64, 128), np.uint8)
    mask[16:48, :64] = 255
    black = Image.new("RGB", (128, 64), "black")
    figure = hits_figure(black, mask, Frame.of(400, 200, PREPROCESSING), [])
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    np.testing.assert_array_equal(shown[4:60, 36:92], 0)
    np.testing.assert_array_equal(shown[:, :36], 1 - figures._FADED)  # highlighted or not
    np.testing.assert_array_equal(shown[60:], 1 - figures._FADED)
    [border] = figure.axes[0].patches
    assert border.get_bbox().extents.tolist() == [35.5, 3.5, 91.5, 59.5]
    whole, lit = figure.axes[0].collections
    assert whole.get_paths()[0].get_extents().x0 < 0 < lit.get_paths()[0].get_extents().x0 - 35
