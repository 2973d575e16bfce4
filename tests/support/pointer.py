"""Real pointer events on a canvas that shows an image, in pixels of that image."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import expect

_SETTLED = """async (element) => {
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  const place = () => JSON.stringify(element.getBoundingClientRect());
  for (let before = null, same = 0; same < 3; before = place()) {
    await frame();
    same = place() === before ? same + 1 : 0;
  }
  return element.getBoundingClientRect().toJSON();
}"""


def settled(locator):
    """Scroll an element into view; return its box once the page has stopped to move it."""
    locator.scroll_into_view_if_needed()
    return locator.evaluate(_SETTLED)


class Canvas:
    """A canvas that shows a whole image of a known width."""

    def __init__(self, locator, width):
        self.locator, self._width = locator, width
        self._mouse = locator.page.mouse

    def ready(self):
        """Wait until an image is open and the page has stopped to move; return where it is."""
        expect(self.locator).to_have_attribute("aria-busy", "false")
        return settled(self.locator)

    def empty(self):
        """Wait until nothing is highlighted in the browser."""
        self.ready()
        expect(self.locator).to_have_attribute("aria-description", "Nothing is highlighted.")

    def at(self, *points):
        """Return points of the image as points of the page."""
        box = self.ready()
        scale = box["width"] / self._width
        return [(box["x"] + x * scale, box["y"] + y * scale) for x, y in points]

    def drag(self, *points, steps=1):
        """Press at the first point, move over the others, release at the last."""
        first, *others = self.at(*points)
        self._mouse.move(*first)
        self._mouse.down()
        for point in others:
            self._mouse.move(*point, steps=steps)
        self._mouse.up()

    def click(self, point, **options):
        self._mouse.click(*self.at(point)[0], **options)


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
