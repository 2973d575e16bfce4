import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vfs_ops.errors import QueryError
from vfs_ops.overlays.transforms import Transform, rotations, scalings

SIZE = (120, 80)


def spot(x, y):
    """An image with one soft bright spot at a point."""
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    pixels = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
    return Image.fromarray(pixels.astype(np.uint8))


def middle_of(image):
    pixels = np.asarray(image, np.float64)
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]] + 0.5
    total = pixels.sum()
    return float((columns * pixels).sum() / total), float((rows * pixels).sum() / total)


@pytest.mark.parametrize(
    "transform",
    [*rotations([0, 17, 90, -45, 180, 270, 361]), *scalings([0.5, 0.73, 1, 1.3, 1.8])],
    ids=lambda transform: transform.label,
)
@pytest.mark.parametrize("point", [(60.0, 40.0), (50.0, 30.0), (72.5, 47.0)])
def test_a_spot_goes_where_its_point_goes(transform, point):
    moved = transform.apply(spot(*point))
    expected = transform.points(np.array([point]), SIZE)[0]
    assert moved.size == SIZE
    np.testing.assert_allclose(middle_of(moved), expected, atol=0.15)


@given(st.floats(-720, 720), st.floats(0, 120), st.floats(0, 80))
def test_a_rotation_and_its_opposite_cancel(angle, x, y):
    there, back = rotations([angle, -angle])
    moved = there.points(np.array([[x, y]]), SIZE)
    np.testing.assert_allclose(back.points(moved, SIZE), [[x, y]], atol=1e-9)


def test_the_border_is_a_closed_walk_around_the_image():
    (identity,) = rotations([0])
    border = identity.border(SIZE)
    assert border.min() == 0
    assert border.max(axis=0).tolist() == [120, 80]
    assert border[0].tolist() == [0, 0]


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_impossible_factors_are_refused(bad):
    with pytest.raises(QueryError):
        scalings([1, bad])


def test_impossible_angles_are_refused():
    with pytest.raises(QueryError, match="finite"):
        rotations([float("nan")])


@pytest.mark.parametrize("points", [lambda p, s: p[:1], lambda p, s: p * np.nan])
def test_points_of_a_users_transform_are_checked(points):
    transform = Transform(0.0, "mine", lambda image: image, points)
    with pytest.raises(QueryError, match=r"'mine'.*finite"):
        transform.at(np.zeros((3, 2)), SIZE)
