import numpy as np
import pytest
from makers import make_extractor
from PIL import Image, ImageOps

from vfs_ops.errors import QueryError
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.images.geometry import Frame
from vfs_ops.overlays.transform_study import INSIDE, LEFT, PADDING, content_share, study_transforms
from vfs_ops.overlays.transforms import Transform, rotations, scalings

EXACT = Preprocessing(resize=Resize("exact", (64, 64)), crop=None)


def blobs(size=(64, 64)):
    random = np.random.default_rng(5)
    small = Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def mirrored(points, size):
    return np.array([size[0], 0]) + points * [-1, 1]


def test_quarter_turns_take_cells_to_cells():
    study = study_transforms(blobs(), make_extractor(size=64), rotations([0, 90, 180, 270]))
    assert study.mapped.labels == ("original", "0°", "90°", "180°", "270°")
    numbers = np.arange(256).reshape(16, 16)
    cells = study.layers[0].cells
    for turn in range(4):
        # the cell that stands at (y, x) of the turned grid came from there
        moved = np.empty(256, int)
        moved[np.rot90(numbers, turn).ravel()] = numbers.ravel()
        assert cells[turn].ravel().tolist() == moved.tolist()
    assert (study.layers[0].states == INSIDE).all()
    assert (study.layers[0].content == 1).all()


def test_the_untransformed_image_is_as_similar_as_can_be():
    study = study_transforms(blobs(), make_extractor(), rotations([0, 30]))
    for layer in range(2):
        curve = study.curve((1, 2), layer)
        assert curve[0] == pytest.approx(1, abs=1e-6)
        assert curve[1] < 0.9999


def test_cells_leave_when_the_image_grows():
    study = study_transforms(blobs(), make_extractor(size=64), scalings([2]))
    states, cells = study.layers[0].states[0], study.layers[0].cells[0]
    inside = np.zeros((16, 16), bool)
    inside[4:12, 4:12] = True
    assert ((states == INSIDE) == inside).all()
    assert ((states == LEFT) == ~inside).all()
    assert ((cells < 0) == ~inside).all()
    assert np.isnan(study.curve((0, 0))[0])
    assert cells[4, 4] == 1 * 16 + 1


def test_cells_on_the_border_of_a_shrunk_image_lie_on_padding():
    study = study_transforms(blobs(), make_extractor(size=64), scalings([0.55]))
    layer = study.layers[0]
    assert (layer.cells >= 0).all()
    assert (layer.states[0, 0] == PADDING).all()
    assert layer.states[0, 8, 8] == INSIDE
    assert layer.content[0, 0, 0] == 0


@pytest.mark.parametrize("angle", [0, 20, 45, 90])
def test_content_is_the_share_of_white_in_a_turned_white_image(angle):
    (turned,) = rotations([angle])
    white = Image.new("L", (640, 640), 255)
    frame = Frame.of(640, 640, EXACT)
    share = content_share(turned, (640, 640), frame, (8, 8))
    pixels = np.asarray(turned.apply(white), np.float64) / 255
    expected = pixels.reshape(8, 80, 8, 80).mean(axis=(1, 3))
    np.testing.assert_allclose(share, expected, atol=0.06)


def test_the_models_own_padding_is_padding():
    padded = Preprocessing(resize=None, crop=(64, 64))
    (nothing,) = rotations([0])
    share = content_share(nothing, (32, 64), Frame.of(32, 64, padded), (4, 4))
    assert share.tolist() == [[0, 1, 1, 0]] * 4


def test_a_transform_of_ones_own():
    mirror = Transform(1.0, "mirrored", ImageOps.mirror, mirrored)
    study = study_transforms(blobs((64, 48)), make_extractor(size=64), [mirror])
    numbers = np.arange(256).reshape(16, 16)
    assert (study.layers[0].cells[0] == numbers[:, ::-1]).all()
    assert (study.layers[0].states == INSIDE).all()


def test_a_transform_that_changes_the_size_is_followed():
    crop = Transform(0.0, "right half", lambda image: image.crop((32, 0, 64, 64)), shifted)
    study = study_transforms(blobs(), make_extractor(size=64), [crop])
    cells = study.layers[0].cells[0]
    assert (cells[:, :8] == -1).all()
    assert cells[0, 8] == 1  # the middle of a cell that became two cells wide
    assert study.mapped.sizes == ((64, 64), (32, 64))


def shifted(points, size):
    return points - [32, 0]


def test_what_cannot_be_studied_is_refused():
    with pytest.raises(QueryError, match="one at least"):
        study_transforms(blobs(), make_extractor(), [])
    nothing = Transform(0.0, "nothing", lambda image: None, mirrored)
    with pytest.raises(QueryError, match="'nothing' returned NoneType"):
        study_transforms(blobs(), make_extractor(), [nothing])
