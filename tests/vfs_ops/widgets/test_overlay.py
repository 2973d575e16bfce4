"""The overlay of similarities in a real JupyterLab with a real kernel."""

import numpy as np
import pytest
from overlay_makers import panel, point_of, wait_for_cell, wait_for_value
from playwright.sync_api import expect

EARLY, LATE = (6, 8), (4, 4)
WIDER = """(el) => [...el.querySelectorAll('*')].filter((inner) => !inner.closest('.vfs-frame')
  && inner.getBoundingClientRect().right > el.getBoundingClientRect().right + 1).length"""
CELLS = [
    """
from overlay_makers import make_mapped
from vfs_ops.widgets import SimilarityOverlay
here = SimilarityOverlay(make_mapped(), title="Three animals")
here
""",
    """
there = SimilarityOverlay(make_mapped(seed=1), compute="python")
there
""",
    """
from vfs_ops.widgets import FactorOverlay
groups = FactorOverlay(make_mapped(negative=False), 4)
groups
""",
    "there",
]


@pytest.fixture(scope="module")
def notebook(open_notebook):
    return open_notebook(*CELLS)


@pytest.fixture(scope="module")
def here(notebook):
    return notebook.page.locator(".vfs-overlay").nth(0)


@pytest.fixture(scope="module")
def there(notebook):
    return notebook.page.locator(".vfs-overlay").nth(1)


def let_go(notebook, name, scope):
    notebook.kernel.execute(f"{name}.pinned = None")
    expect(scope.get_by_role("button", name="Pin", exact=True)).to_be_visible()


def expected(notebook, name, source, place):
    """Return what Python computes for two cells: ``(layer, image, (row, column))`` each."""
    layer, image, cell = source
    found = notebook.kernel.evaluate(f"{name}.similarities({image}, {cell}, {layer})")
    return float(found[place[0]][place[1]][place[2]])


@pytest.mark.parametrize("name", ["here", "there"])
def test_a_pinned_cell_and_the_values_under_the_pointer_are_those_of_python(
    notebook, name, request
):
    scope, page = request.getfixturevalue(name), notebook.page
    source = (0, 1, (2, 5))
    page.mouse.move(*point_of(scope, *source, EARLY))
    wait_for_cell(scope, *source, 8)
    wait_for_value(scope, 1)
    page.mouse.down()
    page.mouse.up()
    notebook.kernel.wait_until(f"{name}.pinned")
    assert notebook.kernel.evaluate(f"{name}.pinned") == {
        "layer": 0,
        "image": 1,
        "row": 2,
        "column": 5,
    }
    places = [(0, 0, (5, 7), EARLY), (0, 2, (0, 0), EARLY), (1, 1, (3, 1), LATE)]
    for layer, image, cell, grid in places:
        page.mouse.move(*point_of(scope, layer, image, cell, grid))
        row, column = cell
        page.wait_for_function(
            "([el, text]) => el.querySelector('.vfs-readout').textContent.includes(text)",
            arg=[scope.element_handle(), f"→{['cat', 'dog', 'crow'][image]}({row}, {column})"],
        )
        value = expected(notebook, name, source, (layer, image, cell))
        wait_for_value(scope, value)
        shown = scope.locator("data.vfs-value").text_content().replace("−", "-")
        assert float(shown) == pytest.approx(value, abs=5.1e-4)
    wait_for_cell(scope, *source, 8)
    page.mouse.move(*point_of(scope, *source, EARLY))
    page.mouse.down()
    page.mouse.up()
    notebook.kernel.wait_until(f"{name}.pinned is None")


@pytest.mark.parametrize("name", ["here", "there"])
def test_heatmaps_have_the_colours_of_their_values_in_step(notebook, name, request):
    from vfs_ops.widgets.colormaps import colour_table

    scope = request.getfixturevalue(name)
    notebook.kernel.execute(f"{name}.pinned = dict(layer=1, image=0, row=1, column=2)")
    wait_for_cell(scope, 1, 0, (1, 2), 4)
    maps = notebook.kernel.evaluate(f"{name}.similarities(0, (1, 2), 1)")
    table = colour_table("viridis").astype(int)
    for layer in range(2):
        for image in range(3):
            values = maps[layer][image]
            canvas = panel(scope, layer, image).locator(".vfs-heat")
            near = 256 * np.clip(values, 0, 1)
            steps = np.clip(np.floor(near), 0, 255).astype(int)
            decided = abs(near - np.rint(near)) > 1e-3  # rounding chooses neither of two colours
            notebook.page.wait_for_function(
                """([canvas, colours, decided]) => {
                  const { width, height } = canvas;
                  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
                  return decided.every((sure, cell) => !sure
                    || colours[cell].every((value, place) => data[4 * cell + place] === value));
                }""",
                arg=[
                    canvas.element_handle(),
                    table[steps.ravel()].tolist(),
                    decided.ravel().tolist(),
                ],
            )
    let_go(notebook, name, scope)


def test_two_views_of_one_overlay_get_answers_of_their_own(notebook, there):
    again = notebook.page.locator(".vfs-overlay").nth(3)
    notebook.kernel.execute("there.pinned = dict(layer=0, image=2, row=4, column=4)")
    for scope in (there, again):
        wait_for_cell(scope, 0, 2, (4, 4), 8)
        notebook.page.mouse.move(*point_of(scope, 0, 1, (0, 7), EARLY))
        wait_for_value(scope, expected(notebook, "there", (0, 2, (4, 4)), (0, 1, (0, 7))))
    let_go(notebook, "there", there)


def test_groups_are_pinned_on_both_sides(notebook):
    scope = notebook.page.locator(".vfs-overlay").nth(2)
    scope.locator(".vfs-group").nth(3).click()
    notebook.kernel.wait_until("groups.pinned == 3")
    notebook.kernel.execute("groups.pinned = 1")
    notebook.page.mouse.move(*point_of(scope, 0, 0, (2, 2), EARLY))
    expect(scope).to_have_attribute("data-shown", "1")
    parts = notebook.kernel.evaluate("groups.factors.strengths")
    largest = max(each[..., 1].max() for each in parts)
    wait_for_value(scope, parts[0][2, 2, 1] / largest)


def test_everything_by_keyboard(notebook, here):
    page = notebook.page
    page.mouse.move(0, 0)
    panel(here, 0, 0).focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    for _ in range(9):
        page.keyboard.press("ArrowUp")
    wait_for_cell(here, 0, 0, (0, 1), 8)
    page.keyboard.press("Enter")
    notebook.kernel.wait_until("here.pinned == dict(layer=0, image=0, row=0, column=1)")
    page.keyboard.press("PageDown")
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    expect(here.locator(".vfs-readout")).to_contain_text("dog(4, 7)")
    value = expected(notebook, "here", (0, 0, (0, 1)), (0, 1, (4, 7)))
    wait_for_value(here, value)
    page.keyboard.press("Escape")
    notebook.kernel.wait_until("here.pinned is None")
    assert here.locator('.vfs-frame[tabindex="0"]').count() == 1


def test_colours_scale_and_opacity_go_both_ways(notebook, here):
    here.get_by_role("combobox", name="Colours").select_option("cividis")
    here.get_by_role("combobox", name="Scale").select_option("auto")
    here.get_by_label("Opacity").fill("0.3")
    notebook.kernel.wait_until(
        "(here.colormap, here.scale, here.opacity) == ('cividis', 'auto', 0.3)"
    )
    notebook.kernel.execute("here.pinned = dict(layer=0, image=0, row=3, column=3)")
    wait_for_cell(here, 0, 0, (3, 3), 8)
    lowest = float(np.min(notebook.kernel.evaluate("here.similarities(0, (3, 3), 0)[0]")))
    notebook.page.wait_for_function(
        """([el, lowest]) => {
          const text = el.querySelector('.vfs-colours > span').textContent.replace('−', '-');
          return Math.abs(Number(text) - lowest) <= 5.1e-4;
        }""",
        arg=[here.element_handle(), lowest],
    )
    notebook.kernel.execute("here.colormap, here.scale, here.opacity = 'viridis', 'fixed', 0.65")
    notebook.page.wait_for_function(
        "(el) => el.querySelector('.vfs-colours > span').textContent === '≤ 0.000'",
        arg=here.element_handle(),
    )
    with pytest.raises(RuntimeError, match="row below 6"):
        notebook.kernel.execute("here.pinned = dict(layer=0, image=0, row=6, column=0)")
    let_go(notebook, "here", here)


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_looks_right(notebook, here, theme):
    from browser import NARROW, WIDE

    notebook.theme(theme)
    for size, name in ((WIDE, "wide"), (NARROW, "narrow")):
        notebook.resize(size)
        notebook.page.mouse.move(*point_of(here, 0, 0, (2, 3), EARLY))
        wait_for_cell(here, 0, 0, (2, 3), 8)
        notebook.screenshot(f"overlay-{theme}-{name}", here)
        assert here.evaluate(WIDER) == 0
    notebook.resize(WIDE)


def test_what_python_raises_is_shown_and_the_kernel_stays(notebook, there):
    notebook.kernel.execute("there._units = there._units[:1]")
    notebook.page.mouse.move(*point_of(there, 0, 0, (1, 1), EARLY))
    message = there.locator(".vfs-message")
    message.wait_for()
    assert "ValueError" in message.text_content()
    assert notebook.kernel.evaluate("1 + 1") == 2
    notebook.kernel.execute(
        "there._units = SimilarityOverlay(make_mapped(seed=1), compute='python')._units"
    )
    notebook.page.mouse.move(*point_of(there, 0, 0, (2, 2), EARLY))
    message.wait_for(state="detached")


def test_the_newest_question_is_asked_though_the_one_before_failed(notebook, there):
    notebook.kernel.execute(
        """
from vfs_ops.errors import QueryError
held = []
def hold(value, buffers):
    held.append(value["id"])
    del there._similarities
there._similarities = hold
"""
    )
    notebook.page.mouse.move(*point_of(there, 0, 0, (5, 5), EARLY))
    notebook.kernel.wait_until("held")
    notebook.page.mouse.move(*point_of(there, 0, 0, (3, 4), EARLY))
    expect(there.locator(".vfs-readout")).to_contain_text("(3, 4)")
    notebook.kernel.execute("there.fail(held[0], QueryError('this once'))")
    wait_for_cell(there, 0, 0, (3, 4), 8)
    expect(there.locator(".vfs-message")).to_have_count(0)


def test_a_restarted_kernel_is_told(notebook, there):
    notebook.restart_kernel()
    there.get_by_text("Run its cell again").wait_for()
