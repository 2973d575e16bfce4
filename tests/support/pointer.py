"""Real pointer events on a canvas that shows an image, in pixels of that image."""

from __future__ import annotations

import numpy as np


class Canvas:
    """A canvas that shows a whole image of a known width."""

    def __init__(self, locator, width):
        self.locator, self._width = locator, width
        self._mouse = locator.page.mouse

    def at(self, point):
        """Return a point of the image as a point of the page."""
        self.locator.scroll_into_view_if_needed()
        box = self.locator.bounding_box()
        scale = box["width"] / self._width
        return box["x"] + point[0] * scale, box["y"] + point[1] * scale

    def drag(self, *points, steps=1):
        """Press at the first point, move over the others, release at the last."""
        self._mouse.move(*self.at(points[0]))
        self._mouse.down()
        for point in points[1:]:
            self._mouse.move(*self.at(point), steps=steps)
        self._mouse.up()

    def click(self, point, **options):
        self._mouse.click(*self.at(point), **options)


def stroked(shape, points, radius):
    """Return the pixels whose centres lie within a radius of a polyline, plainly."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length if length else 0 * x
        along = np.clip(along, 0, 1)
        distance = np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))
        inside |= distance <= radius
    return inside
