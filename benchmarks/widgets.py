"""Overlays in a real browser: ``python -m benchmarks.widgets [--json FILE]``.

From the pointer's move over a cell to the heatmaps of all images on the screen, for photos at layer
``blocks.4`` of EfficientNet-Lite0 (14×14 cells of 112 channels), in Debian's Chromium without a
GPU. The floor is the same path without an overlay: an event, and the frame after it. Both are
measured in turns. ``frame`` is the time between frames while every frame shows another cell.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.pairs import report
from flows.demo_photos import PHOTOS, photo_path
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.models.loading import load_model
from vfs_ops.overlays.mapped_images import map_images
from vfs_ops.widgets import SimilarityOverlay

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
MOVES = 60

# The moment after a frame was painted: a message posted from the last callback before it.
_MEASURE = """async (moves) => {
  const painted = () => new Promise((resolve) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = resolve;
    port2.postMessage(null);
  }));
  const root = document.querySelector(".vfs-overlay");
  const frames = [...root.querySelectorAll(".vfs-frame")];
  const move = (number) => {
    const frame = frames[number % frames.length];
    frame.scrollIntoView({ block: "nearest" });
    const box = frame.querySelector(".vfs-grid").getBoundingClientRect();
    const place = (number * 37) % 196;
    const [row, column] = [Math.floor(place / 14), place % 14];
    const event = {
      bubbles: true,
      clientX: box.left + (column + 0.5) * box.width / 14,
      clientY: box.top + (row + 0.5) * box.height / 14,
    };
    frame.dispatchEvent(new PointerEvent("pointermove", event));
    return `{"layer":0,"image":${number % frames.length},"cell":${place}}`;
  };
  const ours = [], floor = [], intervals = [];
  for (let number = 0; number < moves; number++) {
    await painted();
    let start = performance.now();
    const expected = move(number);
    do await painted(); while (root.dataset.shown !== expected);
    ours.push(performance.now() - start);
    await painted();
    start = performance.now();
    document.body.dispatchEvent(new PointerEvent("pointermove"));
    await painted();
    floor.push(performance.now() - start);
  }
  let last = await new Promise(requestAnimationFrame);
  for (let number = 0; number < moves; number++) {
    move(number * 5 + 1);
    const now = await new Promise(requestAnimationFrame);
    intervals.push(now - last);
    last = now;
  }
  return { ours, floor, intervals };
}"""


def main() -> int:
    """Print milliseconds; returns 1 where there is no Chromium."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is not installed; install it, as .ci/run does")
        return 1
    extractor = FeatureExtractor(load_model("efficientnet-lite0"), ["blocks.4"])
    photos = [photo_path(name) for name in PHOTOS]
    rows = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        for images in (1, 16):
            overlay = SimilarityOverlay(map_images(photos[:images], extractor))
            path = overlay.save_html(Path(folder) / "overlay.html")
            page = browser.new_page(viewport={"width": 1200, "height": 1000})
            page.goto(path.as_uri())
            rows.append({"images": images, **hover(page)})
            page.close()
        browser.close()
    report(rows, options.json)
    return 0


def hover(page: Page) -> dict[str, Any]:
    """Return medians and spread, in milliseconds."""
    page.wait_for_selector(".vfs-progress", state="hidden")
    page.wait_for_selector("[data-shown]")
    page.evaluate(_MEASURE, 5)
    found = page.evaluate(_MEASURE, MOVES)
    ours = sorted(found["ours"])
    return {
        "hover_to_heatmap_ms": statistics.median(ours),
        "p95_ms": ours[int(0.95 * len(ours))],
        "max_ms": ours[-1],
        "floor_ms": statistics.median(found["floor"]),
        "frame_ms": statistics.median(found["intervals"]),
        "frame_max_ms": max(found["intervals"]),
        "moves": len(ours),
    }


if __name__ == "__main__":
    sys.exit(main())
