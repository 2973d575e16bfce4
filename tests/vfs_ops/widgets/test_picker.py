"""RegionPicker's Python side, without a browser."""

import sys
import threading

import numpy as np
import pytest
from PIL import Image

from vfs_ops.errors import ImageError, InputError, NotFoundError, QueryError, RegionError
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.images.geometry import mask_to_region
from vfs_ops.widgets import Cells, RegionPicker
from vfs_ops.widgets.run_lengths import encode_runs

CELLS = Cells(Preprocessing(resize=Resize("exact", (32, 32)), crop=None), (4, 4))
CROPPED = Cells(Preprocessing(resize=Resize("short", (32,)), crop=(32, 32)), (4, 4))
PHOTO = np.zeros((40, 80, 3), np.uint8)


@pytest.fixture
def sent(monkeypatch):
    messages = []
    monkeypatch.setattr(RegionPicker, "send", lambda self, *message: messages.append(message))
    return messages


def ask(picker, sent, name, value, buffers=()):
    picker._receive(
        picker, {"kind": "request", "id": 1, "name": name, "value": value}, list(buffers)
    )
    return sent[-1]


def test_a_mask_from_python_goes_to_the_browser_with_its_weights(sent):
    picker = RegionPicker(PHOTO, cells=CELLS)
    mask = np.zeros((40, 80), bool)
    mask[10:20, 20:60] = True
    picker.mask = mask
    np.testing.assert_array_equal(picker.mask, mask)
    assert not picker.mask.flags.writeable
    assert picker.revision == 1
    [(message, buffers)] = sent
    assert message["value"]["weights"] == ["cells"]
    weights = np.frombuffer(buffers[1], np.uint8).reshape(4, 4)
    np.testing.assert_array_equal(weights / np.float32(255), picker.weights())
    region = mask_to_region(np.where(mask, 255, 0).astype(np.uint8), CELLS.preprocessing, (4, 4))
    assert picker.weights().sum() == region.weights.sum()


def test_a_mask_from_the_browser(sent):
    picker = RegionPicker([PHOTO, PHOTO[:20]], cells={"a": CELLS, "b": CROPPED})
    mask = np.zeros((40, 80), bool)
    mask[:, :6] = True  # outside of the centre crop
    given = {"number": 0, "done": False, "view": "v"}
    message, _ = ask(picker, sent, "mask", given, [memoryview(encode_runs(mask))])
    assert message["value"]["weights"] == ["a"]
    assert "centre crop" in message["value"]["note"]
    assert picker.revision == 0
    ask(picker, sent, "mask", {**given, "done": True}, [memoryview(encode_runs(mask))])
    assert picker.revision == 1
    np.testing.assert_array_equal(picker.mask, mask)
    wrong = ask(picker, sent, "mask", {**given, "number": 1}, [memoryview(encode_runs(mask))])
    assert "a mask of 3200 pixels came" in wrong[0]["message"]


def test_an_image_comes_with_its_mask_and_the_weights_of_it(sent):
    picker = RegionPicker(PHOTO, cells=CELLS)
    mask = np.zeros((40, 80), bool)
    mask[10:20, 20:60] = True
    picker.mask = mask
    message, (picture, runs, weights) = ask(picker, sent, "image", {"number": 0})
    assert message["value"]["weights"] == ["cells"]
    assert picture.startswith(b"\xff\xd8")
    assert runs == encode_runs(mask)
    shown = np.frombuffer(weights, np.uint8).reshape(4, 4) / np.float32(255)
    np.testing.assert_array_equal(shown, picker.weights())


def test_views_hear_of_masks_in_the_order_in_which_they_were_set(sent):
    """Cells run on one thread, requests on another: the last one told is the one kept."""
    picker = RegionPicker(np.zeros((8, 8, 3), np.uint8))

    def paint(row):
        for column in range(60):
            mask = np.zeros((8, 8), bool)
            mask[row, column % 8] = True
            if row:
                picker.mask = mask
            else:
                given = {"number": 0, "done": True, "view": "v"}
                ask(picker, sent, "mask", given, [memoryview(encode_runs(mask))])

    threads = [threading.Thread(target=paint, args=(row,)) for row in range(4)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    told = [message for message in sent if message[0]["kind"] == "event"]
    assert len(told) == picker.revision == 240
    assert told[-1][1][0] == encode_runs(picker.mask)


def test_each_image_keeps_its_mask(sent):
    picker = RegionPicker([PHOTO, Image.new("L", (8, 6))], names=["a", "b"])
    picker.mask = np.ones((40, 80), bool)
    picker.number = 1
    assert picker.image.size == (8, 6)
    assert picker.mask.shape == (6, 8)
    assert not picker.mask.any()
    picker.number = 0
    assert picker.mask.all()


def test_similarity_is_the_cosine_to_one_cell(sent):
    maps = np.random.default_rng(0).normal(size=(4, 4, 7)).astype(np.float16)
    maps[3, 3] = 0
    picker = RegionPicker(PHOTO, cells=CELLS, features=lambda number: maps)
    value = {"number": 0, "grid": "cells", "row": 1, "column": 2}
    _, [buffer] = ask(picker, sent, "similar", value)
    found = np.frombuffer(buffer, "<f4").reshape(4, 4)
    exact = maps.astype(np.float64)
    expected = exact @ exact[1, 2] / np.linalg.norm(exact[1, 2])
    expected /= np.maximum(np.linalg.norm(exact, axis=-1), 1e-30)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_cannot_be_used_is_said(sent, tmp_path):
    with pytest.raises(InputError, match="no image"):
        RegionPicker([])
    with pytest.raises(InputError, match="2 names for 1 images"):
        RegionPicker(PHOTO, names=["a", "b"])
    with pytest.raises(QueryError, match="no cells"):
        RegionPicker(PHOTO, features=lambda number: PHOTO)
    picker = RegionPicker([PHOTO, tmp_path / "missing.png", b"no image"], cells=CELLS)
    with pytest.raises(NotFoundError, match=r"missing\.png"):
        picker.number = 1
    with pytest.raises(ImageError):
        picker.number = 2
    with pytest.raises(InputError, match="0 to 2"):
        picker.number = 3
    with pytest.raises(RegionError, match="empty"):
        picker.weights()
    with pytest.raises(RegionError, match="shape"):
        picker.mask = np.zeros((2, 2), bool)
    with pytest.raises(QueryError, match="expected one of: cells"):
        picker.weights("other")
