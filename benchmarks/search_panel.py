"""A search panel in JupyterLab: ``python -m benchmarks.search_panel [--json FILE]``.

From the release of the pointer to the first hits on the screen, for the demo's tiles at layer
``blocks.4`` of EfficientNet-Lite0, the cache in memory, with a real kernel and Debian's Chromium
without a GPU. The floor is the search alone, in Python. There is no peer: the widget of
``visualfeaturesearch`` 1.0.0 runs in classic Jupyter and Colab alone, and its search is a cell of
its own.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.pairs import report
from flows.demo_photos import QUERY_PHOTO, cut_tiles, photo_path
from vfs_ops.builds.builder import build
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.models.loading import load_model
from vfs_ops.progress import silent
from vfs_ops.store.workspace import Workspace

STROKES = 20
_SETUP = """
from vfs_ops.caches.cache import open_cache
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.models.loading import load_model
from vfs_ops.store.workspace import Workspace
from vfs_ops.widgets import SearchPanel
cache = open_cache(Workspace.at({workspace!r}), {cache!r}).load()
extractor = FeatureExtractor(load_model("efficientnet-lite0"), ["blocks.4"])
panel = SearchPanel(cache, {photo!r}, extractor=extractor, k=10)
def search_seconds():
    [hits] = panel.hits.values()
    return hits.provenance.seconds
panel
"""
_WATCH = """() => {
  window.shownAfter = [];
  let released = null;
  const canvas = document.querySelector("canvas.vfs-stage");
  canvas.addEventListener("pointerup", () => { released = performance.now(); }, true);
  new MutationObserver(() => {
    const images = [...document.querySelectorAll(".vfs-hit img")];
    if (released === null || !images.length) return;
    const start = released;
    released = null;
    const painted = () => requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => window.shownAfter.push(performance.now() - start);
      port2.postMessage(null);
    });
    // later hits may take the place of the first while these are decoded
    Promise.allSettled(images.map((image) => image.decode())).then(painted);
  }).observe(document.querySelector(".vfs-rows"), { childList: true, subtree: true });
}"""


def main() -> int:
    """Print milliseconds; returns 1 where there is no Chromium."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if shutil.which("chromium") is None:
        print("chromium is not installed; install it, as .ci/run does")
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cut_tiles(folder / "tiles", silent)
        workspace = Workspace.at(str(folder / "workspace"))
        dataset = ingest(str(folder / "tiles"), workspace)
        [cache] = build(dataset, FeatureExtractor(load_model("efficientnet-lite0"), ["blocks.4"]))
        setup = _SETUP.format(
            workspace=str(folder / "workspace"), cache=cache.id, photo=str(photo_path(QUERY_PHOTO))
        )
        report([measure(folder, setup)], options.json)
    return 0


def measure(folder: Path, setup: str) -> dict[str, Any]:
    """Paint strokes of several places; return medians and spread, in milliseconds."""
    # The tests' own harness; it is no package, since pytest puts its folder on the path.
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    from browser import WIDE, Notebook, chromium
    from jupyter_lab import running_lab

    alone = []
    with running_lab(folder / "lab") as lab, chromium() as browser:
        page = browser.new_page(viewport={"width": WIDE[0], "height": WIDE[1]})
        notebook = Notebook(lab, page, folder)
        notebook.open([setup])
        notebook.run()
        canvas = page.locator("canvas.vfs-stage")
        page.wait_for_function("() => document.querySelector('.vfs-caption')?.textContent")
        page.evaluate(_WATCH)
        for stroke in range(STROKES + 2):
            canvas.scroll_into_view_if_needed()
            box = canvas.bounding_box()
            assert box is not None
            x = box["x"] + box["width"] * (0.2 + 0.03 * stroke)
            y = box["y"] + box["height"] * (0.3 + 0.017 * stroke)
            page.keyboard.press("Delete")
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x + 40, y + 12, steps=4)
            page.mouse.up()
            page.wait_for_function("(count) => window.shownAfter.length > count", arg=stroke)
            notebook.kernel.wait_until(f"panel.searches > {stroke}")
            alone.append(1000 * notebook.kernel.evaluate("search_seconds()"))
        shown = page.evaluate("() => window.shownAfter")
        notebook.close()
    shown, alone = sorted(shown[2:]), alone[2:]  # the first run the model and warm up
    return {
        "release_to_hits_ms": statistics.median(shown),
        "max_ms": shown[-1],
        "search_alone_ms": statistics.median(alone),
        "strokes": len(shown),
    }


if __name__ == "__main__":
    sys.exit(main())
