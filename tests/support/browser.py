"""Notebooks in a real JupyterLab in a real Chromium, and HTML files with the network off.

Fixtures are in ``tests/vfs_ops/widgets/conftest.py``.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from jupyter_lab import START_SECONDS, Kernel
from playwright.sync_api import expect, sync_playwright

_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 1000 * START_SECONDS
"""Milliseconds for whatever is awaited of a page: it comes late on a busy machine."""
expect.set_options(timeout=PATIENCE)
WIDE, NARROW = (1200, 900), (420, 900)
"""Sizes of the window in pixels: a laptop's notebook, and one beside something else."""

_READY = """() => {
  const session = window.jupyterapp?.shell?.currentWidget?.context?.sessionContext;
  if (!session?.isReady) return null;
  const kernel = session.session?.kernel;
  return kernel?.connectionStatus === 'connected' && kernel.status === 'idle' ? kernel.id : null;
}"""
_APPEND = """(source) => {
  const { content } = window.jupyterapp.shell.currentWidget;
  content.model.sharedModel.addCell({ cell_type: 'code', source });
  content.activeCellIndex = content.widgets.length - 1;
  window.jupyterapp.commands.execute('notebook:run-cell');
}"""
_RAN = """() => {
  const cells = window.jupyterapp.shell.currentWidget.content.widgets;
  return cells.every((cell) => !cell.promptNode?.textContent.includes('*'))
    && cells.every((cell) => cell.model.executionCount || !cell.model.sharedModel.source);
}"""
_ERRORS = """() => window.jupyterapp.shell.currentWidget.content.widgets
  .flatMap((cell) => cell.model.outputs?.toJSON() ?? [])
  .filter((output) => output.output_type === 'error')
  .map((output) => output.ename + ': ' + output.evalue)"""


@contextmanager
def chromium():
    """Yield a headless Chromium, driven by Playwright."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(_ARGUMENTS), timeout=PATIENCE
        )
        browser.on("context", lambda context: context.set_default_timeout(PATIENCE))
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page whose console errors, page errors and failed requests are kept.

    ``allowed`` holds parts of messages that a test expects.
    """

    def __init__(self, page, screenshots):
        self.page, self._screenshots = page, screenshots
        self.errors, self.allowed = [], []
        page.on("pageerror", lambda error: self.errors.append(f"page error: {error}"))
        page.on("console", self._heard)

    def _heard(self, message):
        if message.type == "error":
            where = message.location.get("url", "")
            self.errors.append(f"console: {message.text} ({where.split('?')[0]})")

    def check(self):
        """Fail if the page reported an error that was not expected."""
        unexpected = [
            error for error in self.errors if not any(part in error for part in self.allowed)
        ]
        assert not unexpected, "\n".join(unexpected)

    def screenshot(self, name, target=None):
        """Write ``<name>.png`` of the page, or of one locator; return the path."""
        self._screenshots.mkdir(parents=True, exist_ok=True)
        path = self._screenshots / f"{name}.png"
        (self.page if target is None else target).screenshot(path=path, animations="disabled")
        return path

    def settle(self):
        """Wait until the page has been laid out and drawn."""
        frame = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.page.evaluate(f"() => {frame}")

    def resize(self, size):
        """Make the window `WIDE` or `NARROW`."""
        self.page.set_viewport_size({"width": size[0], "height": size[1]})


class Notebook(Watched):
    """A notebook that is open in JupyterLab, and its kernel."""

    def __init__(self, lab, page, screenshots):
        super().__init__(page, screenshots)
        self.lab, self.kernel = lab, None

    def open(self, cells):
        """Open a notebook of these code cells in this page, with a kernel of its own."""
        name = self.lab.write_notebook(cells)
        self.page.goto(self.lab.address(f"doc/tree/{name}"))
        self._connect()

    def run(self):
        """Run all cells and wait until they have ended; raise what they raised."""
        self.page.evaluate(
            "() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
        )
        self._wait()

    def append(self, code):
        """Add a cell at the end and run it, as `run` does."""
        self.page.evaluate(_APPEND, code)
        self._wait()

    def _wait(self):
        self.page.wait_for_function(_RAN)
        found = self.page.evaluate(_ERRORS)
        assert not found, "\n".join(found)

    def restart_kernel(self):
        """Restart the kernel under the page, as a person would; its Python is gone."""
        self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.context.sessionContext.restartKernel()"
        )
        self._connect()

    def theme(self, name):
        """Choose ``light`` or ``dark``."""
        full = f"JupyterLab {name.title()}"
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
            full,
        )
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-name", full)

    def close(self):
        """End the kernel and the page; fail if the page reported errors."""
        if self.kernel is not None:
            self.kernel.close()
            self.page.evaluate(
                "() => window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()"
            )
        self.page.close()
        self.check()

    def _connect(self):
        if self.kernel is not None:
            self.kernel.close()
        handle = self.page.wait_for_function(_READY)
        self.kernel = Kernel(self.lab.connection_file(handle.json_value()))


@contextmanager
def offline_page(browser, path, screenshots, *, size=WIDE, theme="light"):
    """Open an HTML file from disk with the network off; yield a `Watched` page.

    Whatever it asks of any server fails, and fails the test.
    """
    context = browser.new_context(
        offline=True, viewport={"width": size[0], "height": size[1]}, color_scheme=theme
    )
    try:
        watched = Watched(context.new_page(), screenshots)
        watched.page.on(
            "requestfailed", lambda request: watched.errors.append(f"asked for {request.url[:200]}")
        )
        watched.page.goto(Path(path).resolve().as_uri())
        yield watched
        watched.check()
    finally:
        context.close()


def screenshot_folder(fallback):
    """Return where screenshots go: ``VFS_SCREENSHOTS`` if it is set, for a person to look at."""
    return Path(os.environ.get("VFS_SCREENSHOTS", fallback))
