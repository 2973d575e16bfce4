"""Small figures for overlays, made without a model, and where their cells are on a page."""

import numpy as np
from PIL import Image

from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.images.geometry import Frame
from vfs_ops.overlays.mapped_images import MapLayer, MappedImages

HOSTILE = ("<img src=x onerror=document.title='bad'>", "</script><script>alert(1)</script>", "<!--")


def make_mapped(labels=("cat", "dog", "crow"), seed=0, negative=True):
    """Return pictures of blobs with random maps of 6×8 and, cropped, of 4×4 cells."""
    random = np.random.default_rng(seed)
    sizes = [(96, 64), (60, 60), (50, 90)]
    sizes = [sizes[number % 3] for number in range(len(labels))]
    small = [random.integers(0, 255, (5, 7, 3), np.uint8) for _ in labels]
    pictures = [
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        for pixels, size in zip(small, sizes, strict=True)
    ]
    wide = Preprocessing(resize=Resize("exact", (48, 64)), crop=None)
    cropped = Preprocessing(resize=Resize("short", (40,)), crop=(32, 32))
    layers = []
    for name, preprocessing, shape in (("early", wide, (6, 8, 13)), ("late", cropped, (4, 4, 30))):
        maps = random.normal(size=(len(labels), *shape)).astype(np.float32)
        frames = tuple(Frame.of(*size, preprocessing) for size in sizes)
        layers.append(MapLayer(name, tuple(maps if negative else np.abs(maps)), frames))
    return MappedImages(tuple(pictures), tuple(labels), tuple(layers))


def panel(scope, layer, image):
    """Return the locator of one panel's frame."""
    return scope.locator(f'.vfs-frame[data-layer="{layer}"][data-image="{image}"]')


def point_of(scope, layer, image, cell, grid):
    """Return the middle of a cell in pixels of the window."""
    from pointer import settled

    box = settled(panel(scope, layer, image).locator(".vfs-grid"))
    x = box["x"] + (cell[1] + 0.5) * box["width"] / grid[1]
    y = box["y"] + (cell[0] + 0.5) * box["height"] / grid[0]
    return x, y


def wait_for_cell(scope, layer, image, cell, columns):
    """Wait until the heatmaps of a cell are shown."""
    from playwright.sync_api import expect

    number = cell[0] * columns + cell[1]
    shown = f'{{"layer":{layer},"image":{image},"cell":{number}}}'
    expect(scope).to_have_attribute("data-shown", shown)


def wait_for_value(scope, value, tolerance=1e-6):
    """Wait until the value that is read out is this one; the browser draws when it has time.

    The tolerance is that of a dot product of unit vectors in float32 against one in doubles.
    """
    scope.page.wait_for_function(
        """([number, value, tolerance]) => number.value !== ""
          && Math.abs(Number(number.value) - value) <= tolerance""",
        arg=[scope.locator("data.vfs-value").element_handle(), float(value), tolerance],
    )
