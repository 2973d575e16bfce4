import base64

import numpy as np
import pytest

from vfs_ops.widgets.colormaps import COLORMAPS, colour_table, distinct_colours, encoded_tables


def lightness(table):
    """CIE L* of sRGB colours."""
    part = table / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(np.maximum(luminance, 0.008856)) - 16


@pytest.mark.parametrize("name", COLORMAPS)
def test_equal_steps_look_equal(name):
    steps = lightness(colour_table(name)[16:240:16].astype(float))
    assert (np.diff(steps) > 0).all()
    assert np.corrcoef(np.arange(len(steps)), steps)[0, 1] > 0.99


def test_tables_travel_as_text():
    for name, text in encoded_tables().items():
        assert base64.b64decode(text) == colour_table(name).tobytes()


def test_groups_have_colours_of_their_own():
    colours = distinct_colours(20)
    assert len(set(colours)) == 20
    assert all(len(colour) == 7 and colour[0] == "#" for colour in colours)
