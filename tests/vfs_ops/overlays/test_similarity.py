import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vfs_ops.errors import QueryError
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.images.geometry import Frame
from vfs_ops.overlays.correspondence import corresponding_cell
from vfs_ops.overlays.mapped_images import MapLayer, MappedImages
from vfs_ops.overlays.similarity import (
    cell_similarities,
    corresponding_cells,
    similarity_maps,
    unit_vectors,
)

EXACT = Preprocessing(resize=Resize("exact", (64, 64)), crop=None)
SHORT = Preprocessing(resize=Resize("short", (64,)), crop=(56, 56))

values = st.floats(-1e3, 1e3, width=16, allow_subnormal=False)


def maps(rows, columns, channels):
    return arrays.arrays(np.float16, (rows, columns, channels), elements=values)


def naive_cosine(one, other):
    product = one_norm = other_norm = 0.0
    for a, b in zip(one.tolist(), other.tolist(), strict=True):
        product, one_norm, other_norm = product + a * b, one_norm + a * a, other_norm + b * b
    if one_norm == 0 or other_norm == 0:
        return 0.0
    return product / math.sqrt(one_norm) / math.sqrt(other_norm)


def make_mapped():
    random = np.random.default_rng(3)
    frames = [Frame.of(100, 60, EXACT), Frame.of(40, 90, EXACT)]
    cropped = [Frame.of(100, 60, SHORT), Frame.of(40, 90, SHORT)]
    return MappedImages(
        (None, None),
        ("one", "two"),
        (
            MapLayer("a", tuple(random.normal(size=(2, 6, 4, 5))), tuple(frames)),
            MapLayer("b", tuple(random.normal(size=(2, 3, 3, 7))), tuple(cropped)),
        ),
    )


@given(maps(2, 3, 4), maps(3, 2, 4))
def test_similarities_are_those_of_two_loops(one, other):
    one[0, 0] = other[2, 1] = 0
    units = unit_vectors(other)
    assert units.dtype == np.float32
    for cell in np.ndindex(2, 3):
        found = cell_similarities(unit_vectors(one)[cell], units)
        assert found.dtype == np.float32
        assert found.shape == (3, 2)
        for place in np.ndindex(3, 2):
            expected = naive_cosine(one[cell], other[place])
            assert found[place] == pytest.approx(expected, abs=1e-6)
        assert found[2, 1] == 0


@given(maps(2, 2, 3))
def test_unit_vectors_have_length_one_or_zero(features):
    lengths = np.linalg.norm(unit_vectors(features), axis=-1)
    zero = ~features.any(axis=-1)
    np.testing.assert_allclose(lengths, np.where(zero, 0, 1), atol=1e-6)


def test_lengths_beyond_float32_are_no_problem():
    huge = np.array([3e38, 3e38, 0, 0], np.float32)
    tiny = np.array([0, 1e-30, 1e-30, 0], np.float32)
    assert cell_similarities(unit_vectors(huge), unit_vectors(tiny)) == pytest.approx(0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(QueryError, match="NaN or infinite"):
        unit_vectors(np.array([1.0, value]))


def test_other_channels_are_refused():
    with pytest.raises(QueryError, match="same layer"):
        cell_similarities(np.ones(3, np.float32), np.ones((2, 4), np.float32))


@pytest.mark.parametrize("layer", [0, 1])
def test_layers_go_in_step_by_place(layer):
    mapped = make_mapped()
    grid = mapped.layers[layer].grid
    for image in range(2):
        for cell in np.ndindex(*grid):
            found = similarity_maps(mapped, image, cell, layer)
            assert found[layer][image][cell] == pytest.approx(1, abs=1e-6)
            for number, other in enumerate(mapped.layers):
                frame = mapped.layers[layer].frames[image]
                place = corresponding_cell(cell, frame, grid, other.frames[image], other.grid)
                if place is None:
                    assert found[number] is None
                    continue
                for shown, features in zip(found[number], other.features, strict=True):
                    expected = [
                        naive_cosine(other.features[image][place], vector)
                        for vector in features.reshape(-1, other.channels)
                    ]
                    np.testing.assert_allclose(shown.ravel(), expected, atol=1e-6)


def test_a_place_that_one_model_crops_away_has_no_heatmap_there():
    assert similarity_maps(make_mapped(), 0, (0, 0), 0)[1] is None


@pytest.mark.parametrize(
    ("image", "cell", "layer", "message"),
    [
        (2, (0, 0), 0, "image 2 .* 0 to 1"),
        (0, (6, 0), 0, "row below 6"),
        (0, (0, -1), 0, "column below"),
        (0, (0, 0), 2, "layer 2"),
    ],
)
def test_what_is_not_there_is_refused(image, cell, layer, message):
    with pytest.raises(QueryError, match=message):
        corresponding_cells(make_mapped(), image, cell, layer)
