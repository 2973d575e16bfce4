"""One JupyterLab and one Chromium for all tests of widgets.

Playwright occupies the event loop of the main thread from the first such test to the end, so these
tests come last in their session, as the name of their folder sees to.
"""

import pytest
import requirements

FIRST_SECONDS = 600
"""For a test on a busy machine that starts JupyterLab, Chromium and a kernel before it begins."""


def pytest_collection_modifyitems(items):
    """Give tests of the browser time for what they start."""
    for item in items:
        if {"browser", "lab"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(FIRST_SECONDS))


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Return a running JupyterLab."""
    requirements.skip_without("chromium")
    from jupyter_lab import running_lab

    with running_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="session")
def browser():
    """Return a running Chromium."""
    requirements.skip_without("chromium")
    from browser import chromium

    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    """Return the folder for screenshots; set ``VFS_SCREENSHOTS`` to look at them."""
    from browser import screenshot_folder

    return screenshot_folder(tmp_path_factory.mktemp("screenshots"))


@pytest.fixture(scope="module")
def open_notebook(lab, browser, screenshots):
    """Return a function that opens a notebook of the given code cells and runs them.

    Notebooks stay open until the end of the module, and are then closed; errors that their pages
    reported fail it, in the test that is running if that calls ``notebook.check()``.
    """
    from browser import WIDE, Notebook

    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    opened = []

    def open_it(*cells):
        notebook = Notebook(lab, context.new_page(), screenshots)
        opened.append(notebook)
        notebook.open(cells)
        notebook.run()
        return notebook

    yield open_it
    try:
        for notebook in opened:
            notebook.close()
    finally:
        context.close()


@pytest.fixture
def offline(browser, screenshots):
    """Return a context manager that opens an HTML file from disk with the network off."""
    from functools import partial

    from browser import offline_page

    return partial(offline_page, browser, screenshots=screenshots)
