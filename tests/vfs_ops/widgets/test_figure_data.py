import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from overlay_makers import make_mapped
from PIL import Image

from vfs_ops.overlays.correspondence import corresponding_cell
from vfs_ops.widgets import base
from vfs_ops.widgets.figure_data import cut_messages, images_document, picture_blobs

blobs = st.dictionaries(st.text(max_size=3), st.binary(max_size=40), max_size=5)


@given(blobs, st.integers(1, 30))
def test_messages_are_small_and_give_back_what_was_cut(given_blobs, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "MESSAGE_BYTES", limit)
        messages = cut_messages(given_blobs)
    found = {name: bytearray() for name, data in given_blobs.items() if data}
    for message in messages:
        assert sum(map(len, message.buffers)) <= limit
        for piece, buffer in zip(message.value["pieces"], message.buffers, strict=True):
            assert piece["start"] == len(found[piece["name"]])
            assert piece["total"] == len(given_blobs[piece["name"]])
            found[piece["name"]] += bytes(buffer)
    assert found == {name: data for name, data in given_blobs.items() if data}


def test_boxes_of_grids_lie_in_what_is_shown_and_correspond():
    mapped = make_mapped()
    document = images_document(mapped)
    early, late = document["layers"]
    assert (early["rows"], early["columns"], early["channels"]) == (6, 8, 13)
    for number, image in enumerate(document["images"]):
        view = image["view"]
        for layer in (early, late):
            box = layer["boxes"][number]
            assert view[0] <= box[0] < box[2] <= view[2]
            assert view[1] <= box[1] < box[3] <= view[3]
        width, height = mapped.sizes[number]
        assert image["aspect"] == pytest.approx(
            (view[2] - view[0]) * width / (view[3] - view[1]) / height
        )
        for row, column in np.ndindex(6, 8):
            x = early["boxes"][number][0] + (column + 0.5) / 8 * span(early, number, 0)
            y = early["boxes"][number][1] + (row + 0.5) / 6 * span(early, number, 1)
            there = (
                int(np.floor((y - late["boxes"][number][1]) / span(late, number, 1) * 4 + 1e-6)),
                int(np.floor((x - late["boxes"][number][0]) / span(late, number, 0) * 4 + 1e-6)),
            )
            inside = all(0 <= place < 4 for place in there)
            one, other = mapped.layers
            assert corresponding_cell(
                (row, column), one.frames[number], (6, 8), other.frames[number], (4, 4)
            ) == (there if inside else None)


def span(layer, image, axis):
    return layer["boxes"][image][axis + 2] - layer["boxes"][image][axis]


def test_pictures_are_jpegs():
    mapped = make_mapped()
    pictures = picture_blobs(mapped)
    assert list(pictures) == ["picture/0", "picture/1", "picture/2"]
    for picture, data in zip(mapped.pictures, pictures.values(), strict=True):
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("JPEG", picture.size)
