from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from vfs_ops.errors import RegionError
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.images.geometry import Frame, Region, mask_to_region
from vfs_ops.images.masks import pixel_mask

EXACT = Preprocessing(resize=Resize("exact", (224, 224)), crop=None)
SHORT = Preprocessing(resize=Resize("short", (64,)), crop=(56, 56))
CROP = Preprocessing(resize=None, crop=(56, 56))
GRID = (7, 7)


def reference_weights(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """What the notebooks of visualfeaturesearch do with the mask drawn on the model's input."""
    rgba = Image.fromarray(np.repeat(mask[..., None], 4, axis=2), "RGBA")
    small = v2.functional.resize(rgba, list(grid))
    return np.asarray(small)[:, :, 3] / 255


@pytest.mark.parametrize("grid", [(7, 7), (14, 14), (5, 9), (1, 1)])
@pytest.mark.parametrize("seed", range(4))
def test_a_mask_on_the_input_gives_the_weights_of_the_reference(
    grid: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((224, 224), np.uint8)
    y, x = np.ogrid[:224, :224]
    for cy, cx in rng.integers(40, 180, (3, 2)):
        mask[(y - cy) ** 2 + (x - cx) ** 2 < 30**2] = 255
    region = mask_to_region(mask, EXACT, grid)
    expected = reference_weights(mask, grid)
    placed = np.zeros(grid)
    placed[region.top : region.top + region.high, region.left : region.left + region.wide] = (
        region.weights
    )
    np.testing.assert_array_equal(placed, expected.astype(np.float32))


@pytest.mark.parametrize("preprocessing", [SHORT, CROP])
@given(
    width=st.integers(20, 200),
    height=st.integers(20, 200),
    box=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_the_mask_takes_the_path_of_the_image(
    preprocessing: Preprocessing, width: int, height: int, box: tuple[float, ...]
) -> None:
    mask = np.zeros((height, width), np.uint8)
    x, y = sorted(box[:2]), sorted(box[2:])
    mask[int(y[0] * height) : int(y[1] * height) + 1, int(x[0] * width) : int(x[1] * width) + 1] = (
        255
    )
    steps = [v2.CenterCrop(preprocessing.crop)]
    if preprocessing.resize:
        steps.insert(0, v2.Resize(preprocessing.resize.size))
    framed = np.asarray(v2.Compose(steps)(Image.fromarray(mask)))
    expected = reference_weights(framed, GRID)
    try:
        region = mask_to_region(mask, preprocessing, GRID)
    except RegionError:
        assert expected.max() < 0.02
        return
    placed = np.zeros(GRID)
    placed[region.top : region.top + region.high, region.left : region.left + region.wide] = (
        region.weights
    )
    np.testing.assert_allclose(placed, expected, atol=1.01 / 255)


@given(
    width=st.integers(60, 300),
    height=st.integers(60, 300),
    top=st.integers(0, 4),
    left=st.integers(0, 4),
    preprocessing=st.sampled_from([EXACT, SHORT]),
)
def test_the_box_of_a_window_covers_exactly_that_window(
    width: int, height: int, top: int, left: int, preprocessing: Preprocessing
) -> None:
    frame = Frame.of(width, height, preprocessing)
    box = frame.window_box(top, left, 3, 3, GRID)
    fine = 4  # draws on a finer image of the same proportions, where boxes are near whole pixels
    big = Frame.of(width * fine, height * fine, preprocessing)
    if (big.left, big.top, big.resized_width, big.resized_height) != (
        frame.left,
        frame.top,
        frame.resized_width,
        frame.resized_height,
    ):
        return
    mask = pixel_mask(width * fine, height * fine, boxes=[[fine * side for side in box]])
    region = mask_to_region(mask, preprocessing, GRID, "coverage")
    inside = region.weights[top - region.top :, left - region.left :][:3, :3]
    assert inside.shape == (3, 3)
    assert inside.min() > 0.8
    assert region.weights.sum() == pytest.approx(9, abs=1.5)


def test_coverage_keeps_a_square_of_whole_cells() -> None:
    mask = np.zeros((224, 224), np.uint8)
    mask[64:160, 32:128] = 255
    region = mask_to_region(mask, EXACT, GRID, "coverage")
    np.testing.assert_array_equal(region.weights, np.ones((3, 3), np.float32))
    assert (region.top, region.left, region.grid) == (2, 1, GRID)
    assert mask_to_region(mask, EXACT, GRID).weights.shape == (5, 5)


def test_coverage_is_the_part_of_the_area() -> None:
    mask = np.zeros((448, 448), np.uint8)
    mask[0:64, 0:32] = 255
    mask[0:32, 64:128] = 128
    region = mask_to_region(mask, EXACT, GRID, "coverage")
    np.testing.assert_allclose(region.weights, [[0.5, 64 / 255]], atol=0.51 / 255)


def test_the_whole_image_weighs_one_everywhere() -> None:
    region = mask_to_region(pixel_mask(300, 200), SHORT, GRID)
    np.testing.assert_array_equal(region.weights, np.ones(GRID, np.float32))


def test_padding_weighs_nothing() -> None:
    region = mask_to_region(pixel_mask(56, 28), CROP, GRID, "coverage")
    assert (region.high, region.wide, region.top) == (5, 7, 1)
    np.testing.assert_allclose(region.weights[[0, -1]], 64 / 255, atol=1e-7)
    assert Frame.of(56, 28, CROP).window_box(0, 0, 1, 7, GRID) == (0, 0, 56, 0)


def test_a_window_box_is_in_pixels_of_the_original() -> None:
    frame = Frame.of(400, 200, SHORT)  # resized to 128 × 64, cropped at (36, 4)
    assert frame.visible == (36, 4, 92, 60)
    assert frame.window_box(0, 0, 7, 7, GRID) == (112.5, 12.5, 287.5, 187.5)
    assert frame.window_box(1, 2, 1, 1, GRID) == (162.5, 37.5, 187.5, 62.5)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((100, 200), np.uint8), "empty"),
        (pixel_mask(200, 100, boxes=[(0, 0, 20, 100)]), "outside of what the model sees"),
        (pixel_mask(2000, 1000, boxes=[(1000, 500, 1001, 501)]), "too little"),
    ],
)
def test_a_mask_that_selects_nothing_is_refused(mask: np.ndarray, message: str) -> None:
    with pytest.raises(RegionError, match=message):
        mask_to_region(mask, SHORT, GRID)


def test_an_unknown_downsampling_is_refused() -> None:
    with pytest.raises(RegionError, match="bilinear, coverage"):
        mask_to_region(pixel_mask(10, 10), SHORT, GRID, "nearest")  # type: ignore[arg-type]


def test_a_region_is_cropped_to_the_weights_above_zero() -> None:
    weights = np.zeros((4, 5), np.float32)
    weights[1, 2], weights[2, 4] = 1e-6, 1
    region = Region.of(weights)
    assert (region.top, region.left, region.high, region.wide) == (1, 2, 2, 3)
    with pytest.raises(RegionError):
        Region.of(np.zeros((4, 5), np.float32))


def test_a_panorama_costs_no_more_than_the_crop() -> None:
    mask = pixel_mask(20_000, 2)  # its resized mask alone would have 41 million pixels
    region = mask_to_region(mask, SHORT, GRID)
    np.testing.assert_array_equal(region.weights, np.ones(GRID, np.float32))
