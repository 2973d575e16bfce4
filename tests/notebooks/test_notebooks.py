"""Every notebook runs from top to bottom, offline, as it is stored: without outputs."""

import os
from contextlib import contextmanager

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_core.utils import run_sync
from jupyter_lab import ROOT, short_folder
from nbclient import NotebookClient

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
VIEW = "application/vnd.jupyter.widget-view+json"
FEW_PHOTOS = """
get_ipython().reset(new_session=True)
import flows.demo_photos
flows.demo_photos.PHOTOS = ("astronaut.png", "motorcycle_left.png")
flows.demo_photos.SCALES = (0.7,)
"""
"""A cell before the first: nothing is left of the notebook before, and the demo has few tiles."""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@contextmanager
def running_kernel(folder):
    """Start a kernel in an empty folder, apart from the user's settings, without a network."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        # whatever asks the network, fails
        **dict.fromkeys(
            ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"
        ),
    }
    place = folder / "empty"
    place.mkdir()
    with short_folder() as sockets:
        kernel = AsyncKernelManager(connection_file=str(sockets / "kernel.json"), transport="ipc")
        run_sync(kernel.start_kernel)(cwd=str(place), env=environment)
        try:
            yield kernel, place
        finally:
            run_sync(kernel.shutdown_kernel)(now=True)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """Return one kernel for all notebooks, which loads torch once, and the folder it is in."""
    with running_kernel(tmp_path_factory.mktemp("kernel")) as running:
        yield running


def run(notebook, kernel, folder):
    """Run all cells; check what they show, say, and leave."""
    client = NotebookClient(notebook, km=kernel, timeout=600)
    try:
        client.execute()
    finally:
        client.kc.stop_channels()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    told = [output.text for output in outputs if output.get("name") == "stderr"]
    assert not told
    assert any(VIEW in output.get("data", {}) for output in outputs)
    assert not os.listdir(folder), "a notebook leaves files beside itself"


@each_notebook
def test_notebooks_are_stored_without_outputs_and_explain_themselves(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].cell_type == "markdown"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert len(notebook.cells) - len(code) >= len(code) // 2


@each_notebook
def test_notebooks_run_from_top_to_bottom_on_a_few_photos(path, kernel):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FEW_PHOTOS))
    run(notebook, *kernel)


@pytest.mark.long
@pytest.mark.timeout(900)
@each_notebook
def test_notebooks_run_as_they_are_stored(path, tmp_path):
    with running_kernel(tmp_path) as (kernel, folder):
        run(nbformat.read(path, as_version=4), kernel, folder)
