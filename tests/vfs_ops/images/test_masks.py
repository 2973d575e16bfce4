from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vfs_ops.errors import RegionError
from vfs_ops.images.masks import pixel_mask

WIDTH, HEIGHT = 12, 9


def winds_around(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    winding = 0
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
            winding += 1 if y1 > y0 else -1
    return winding != 0


@given(
    st.lists(st.tuples(st.integers(-40, 160), st.integers(-40, 130)), min_size=3, max_size=9),
)
def test_a_polygon_fills_the_pixels_whose_centres_it_winds_around(
    tenths: list[tuple[int, int]],
) -> None:
    corners = [(x / 10, y / 10) for x, y in tenths]
    centres = [(x + 0.5, y + 0.5) for y in range(HEIGHT) for x in range(WIDTH)]
    # Where the outline passes through a centre, but for rounding, either is right.
    for_sure = [
        all(winds_around(x + shift, y, corners) for shift in (-1e-9, 1e-9)) for x, y in centres
    ]
    possibly = [
        any(winds_around(x + shift, y, corners) for shift in (-1e-9, 1e-9)) for x, y in centres
    ]
    if not any(for_sure):
        return
    inside = pixel_mask(WIDTH, HEIGHT, polygon=corners).reshape(-1) == 255
    assert inside[for_sure].all()
    assert not inside[~np.array(possibly)].any()


def test_a_lasso_that_crosses_itself_has_no_hole() -> None:
    twice = [(1, 1), (9, 1), (9, 8), (1, 8)] * 2
    np.testing.assert_array_equal(
        pixel_mask(WIDTH, HEIGHT, polygon=twice), pixel_mask(WIDTH, HEIGHT, boxes=[(1, 1, 9, 8)])
    )


def test_what_is_given_together_is_a_union() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[0, 0] = True
    drawn = pixel_mask(
        WIDTH,
        HEIGHT,
        mask=mask,
        boxes=[(3, 3, 5, 5), (4, 4, 6, 6)],
        polygon=[(8, 0), (12, 0), (12, 2), (8, 2)],
    )
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[0, 0] = 255
    expected[3:5, 3:5] = 255
    expected[4:6, 4:6] = 255
    expected[0:2, 8:12] = 255
    np.testing.assert_array_equal(drawn, expected)


def test_several_polygons_are_a_union() -> None:
    one, other = [(1, 1), (4, 1), (4, 4), (1, 4)], [(6, 2), (9, 2), (9, 6)]
    both = np.maximum(
        pixel_mask(WIDTH, HEIGHT, polygon=one), pixel_mask(WIDTH, HEIGHT, polygon=other)
    )
    np.testing.assert_array_equal(pixel_mask(WIDTH, HEIGHT, polygon=[one, other]), both)


def test_nothing_given_is_the_whole_image() -> None:
    assert (pixel_mask(WIDTH, HEIGHT) == 255).all()


def test_a_box_is_clipped_to_the_image() -> None:
    drawn = pixel_mask(WIDTH, HEIGHT, boxes=[(-5, -5, 2, 1)])
    assert drawn.sum() == 2 * 255


@pytest.mark.parametrize(
    "mask",
    [
        np.eye(HEIGHT, WIDTH, dtype=bool),
        np.eye(HEIGHT, WIDTH, dtype=np.uint8) * 255,
        np.eye(HEIGHT, WIDTH),
        Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8) * 255),
        Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8) * 255).convert("1"),
    ],
)
def test_masks_of_each_kind_mean_the_same(mask: Any) -> None:
    drawn = pixel_mask(WIDTH, HEIGHT, mask=mask)
    np.testing.assert_array_equal(drawn, np.eye(HEIGHT, WIDTH, dtype=np.uint8) * 255)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"mask": np.ones((WIDTH, HEIGHT), bool)}, r"shape \(12, 9\).*\(9, 12\)"),
        ({"mask": np.ones((HEIGHT, WIDTH), np.uint8)}, "astype"),
        ({"mask": np.ones((HEIGHT, WIDTH), np.int64)}, "int64"),
        ({"mask": np.full((HEIGHT, WIDTH), 1.5)}, "outside of 0 to 1"),
        ({"mask": np.full((HEIGHT, WIDTH), np.nan)}, "outside of 0 to 1"),
        ({"mask": Image.new("RGBA", (WIDTH, HEIGHT))}, "RGBA"),
        ({"boxes": [(3, 3, 3, 5)]}, r"box \(3, 3, 3, 5\) is empty"),
        ({"boxes": 5}, "expected a list of 4 numbers"),
        ({"boxes": [(5, 3, 3, 5)]}, "is empty"),
        ({"boxes": []}, "expected a list of 4 numbers"),
        ({"boxes": (3, 3, 4, 5)}, "expected a list of 4 numbers"),
        ({"boxes": [(3, 3, 4)]}, "expected a list of 4 numbers"),
        ({"boxes": [(3, 3, "a", 5)]}, "expected 4 numbers"),
        ({"boxes": [(3, 3, np.inf, 5)]}, "not finite"),
        ({"boxes": [(20, 3, 30, 5)]}, "no pixel of the image"),
        ({"boxes": [(3, -9, 5, -1)]}, "no pixel of the image"),
        ({"boxes": [(3.1, 3.1, 3.4, 3.4)]}, "no pixel of the image"),
        ({"boxes": [(900, 10.5, 1234567, 20)]}, r"box \(900, 10.5, 1234567, 20\) holds no pixel"),
        ({"polygon": 5}, "polygon is 5; expected a list of corners"),
        ({"polygon": {}}, "polygon is {}; expected a list of corners"),
        ({"polygon": []}, "expected a list of corners"),
        ({"polygon": [1, 2, 3]}, "expected a list of 2 numbers"),
        ({"polygon": "corner"}, "expected 2 numbers"),
        ({"polygon": [[(1, 2), (3,)]]}, "expected 2 numbers"),
        ({"polygon": [[]]}, "expected a list of 2 numbers"),
        ({"polygon": [(1, 1), (5, 5)]}, "at least 3"),
        ({"polygon": [[(1, 1), (5, 5), (1, 5)], [(1, 1), (5, 5)]]}, "at least 3"),
        ({"polygon": [(1, 1), (5, 5), (9, 9)]}, "no pixel of the image"),
    ],
)
def test_what_selects_nothing_or_does_not_fit_is_refused(
    given_: dict[str, Any], message: str
) -> None:
    with pytest.raises(RegionError, match=message):
        pixel_mask(WIDTH, HEIGHT, **given_)
