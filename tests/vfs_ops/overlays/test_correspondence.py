import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.images.geometry import Frame
from vfs_ops.overlays.correspondence import cell_at, cell_centre, cells_at, corresponding_cell

EXACT = Preprocessing(resize=Resize("exact", (64, 96)), crop=None)
SHORT = Preprocessing(resize=Resize("short", (64,)), crop=(56, 56))
PADDED = Preprocessing(resize=None, crop=(80, 80))

sizes = st.integers(20, 300)
grids = st.tuples(st.integers(1, 20), st.integers(1, 20))
preprocessings = st.sampled_from([EXACT, SHORT, PADDED])


@given(sizes, sizes, preprocessings, grids)
def test_the_middle_of_each_cell_lies_in_it(width, height, preprocessing, grid):
    frame = Frame.of(width, height, preprocessing)
    for cell in np.ndindex(*grid):
        assert cell_at(cell_centre(cell, frame, grid), frame, grid) == cell
        assert corresponding_cell(cell, frame, grid, frame, grid) == cell


@given(sizes, sizes, preprocessings, grids, st.floats(-50, 350), st.floats(-50, 350))
def test_a_point_is_found_as_by_looking_at_every_cell(width, height, preprocessing, grid, x, y):
    frame = Frame.of(width, height, preprocessing)
    columns, rows = frame.column_edges(grid[1]), frame.row_edges(grid[0])
    if min(abs(columns - x)) < 1e-3 or min(abs(rows - y)) < 1e-3:
        return
    expected = [
        (row, column)
        for row, column in np.ndindex(*grid)
        if rows[row] <= y < rows[row + 1] and columns[column] <= x < columns[column + 1]
    ]
    assert [cell_at((x, y), frame, grid)] == (expected or [None])


def test_grids_that_divide_each_other_agree_whatever_the_rounding():
    frame = Frame.of(640, 427, Preprocessing(resize=Resize("short", (256,)), crop=(224, 224)))
    for cell in np.ndindex(7, 7):
        fine = corresponding_cell(cell, frame, (7, 7), frame, (14, 14))
        assert fine == (2 * cell[0] + 1, 2 * cell[1] + 1)
        assert corresponding_cell(fine, frame, (14, 14), frame, (7, 7)) == cell


def test_what_another_model_crops_away_has_no_cell():
    wide = Frame.of(200, 100, EXACT)
    cropped = Frame.of(200, 100, SHORT)
    assert corresponding_cell((0, 0), wide, (8, 8), cropped, (7, 7)) is None
    assert corresponding_cell((4, 4), wide, (8, 8), cropped, (7, 7)) is not None


def test_many_points_at_once():
    frame = Frame.of(100, 100, Preprocessing(resize=Resize("exact", (50, 50)), crop=None))
    points = np.array([[1, 1], [99, 1], [1, 99], [100, 50], [-0.1, 50], [math.inf, 0]])
    assert cells_at(points, frame, (5, 10)).tolist() == [0, 9, 40, -1, -1, -1]
