"""RegionPicker in a real notebook: pointer, keyboard, gallery, themes."""

import numpy as np
import pytest
from playwright.sync_api import expect
from pointer import Canvas, stroked

from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.images.geometry import mask_to_region
from vfs_ops.images.masks import pixel_mask

HIGH, WIDE = 120, 160
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script><!--"
SETUP = f"""
import numpy as np
from skimage import data
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.widgets import Cells, RegionPicker
photo = data.chelsea()[:240:2, 60:380:2]
assert photo.shape == ({HIGH}, {WIDE}, 3)
maps = np.zeros((8, 8, 2), np.float32)
maps[..., 0], maps[2:5, 3:6] = 1, (0, 1)      # a block of nine cells, and the rest
maps[2, 6] = (0.6, 0.8)                       # beside it, cosine 0.8
def broken():
    raise RuntimeError('the disk is on fire')
picker = RegionPicker(
    [photo, photo[::-1], b'no image', broken], names=['chelsea', {EVIL!r}, 'bad', 'broken'],
    cells=Cells(Preprocessing(resize=Resize('exact', (32, 32)), crop=None), (8, 8)),
    features=lambda number: maps,
)
picker
"""
CELLS = Preprocessing(resize=Resize("exact", (32, 32)), crop=None)


@pytest.fixture(scope="module")
def notebook(open_notebook):
    return open_notebook(SETUP)


@pytest.fixture
def canvas(notebook):
    """Return the canvas with nothing highlighted and the brush chosen."""
    page = notebook.page
    Canvas(page.locator("canvas.vfs-stage"), WIDE).ready()
    notebook.kernel.execute("picker.mask = None")
    Canvas(page.locator("canvas.vfs-stage"), WIDE).empty()
    expect(page.get_by_role("radio", name="Brush")).to_be_visible()
    page.get_by_role("radio", name="Brush").click()
    canvas = page.locator("canvas.vfs-stage")
    expect(canvas).to_have_attribute("data-tool", "brush")
    yield Canvas(canvas, WIDE)
    notebook.check()


def finished(notebook, action):
    """Do something that ends with a new mask in Python; return that mask."""
    before = notebook.kernel.evaluate("picker.revision")
    action()
    notebook.kernel.wait_until(f"picker.revision > {before}")
    return notebook.kernel.evaluate("picker.mask")


def radius(notebook):
    return float(notebook.page.get_by_label("Radius of the brush in pixels").input_value())


def disagreement(mask, expected):
    return np.count_nonzero(mask != expected)


def test_a_click_paints_a_disc_and_a_fast_stroke_has_no_gaps(notebook, canvas):
    mask = finished(notebook, lambda: canvas.click((40, 30)))
    size = radius(notebook)
    assert disagreement(mask, stroked((HIGH, WIDE), [(40, 30)], size)) <= 4  # rounding at the rim
    mask = finished(notebook, lambda: canvas.drag((40, 30), (140, 100)))
    assert disagreement(mask, stroked((HIGH, WIDE), [(40, 30), (140, 100)], size)) <= 8


def test_a_stroke_goes_on_beyond_the_edge_and_shift_erases(notebook, canvas):
    points = [(150, 60), (200, 60), (150, 90)]  # released outside would be lost without capture
    mask = finished(notebook, lambda: canvas.drag(*points, (200, 90)))
    assert mask[85:95, 155].all()
    notebook.page.keyboard.down("Shift")
    mask = finished(notebook, lambda: canvas.drag((150, 60), (158, 60)))
    notebook.page.keyboard.up("Shift")
    assert not mask[60, 150:].any()
    assert mask[90, 155]


@pytest.mark.parametrize("tool", ["Rectangle", "Polygon", "Lasso"])
def test_outlines_fill_the_pixels_that_python_fills(notebook, canvas, tool):
    corners = [(20.0, 10.0), (90.0, 10.0), (90.0, 70.0), (20.0, 70.0)]
    if tool != "Rectangle":
        corners = [(20.0, 15.0), (120.0, 40.0), (100.0, 100.0), (60.0, 50.0), (30.0, 90.0)]
    notebook.page.get_by_role("radio", name=tool).click()
    if tool == "Polygon":

        def draw():
            for corner in corners:
                canvas.click(corner)
            canvas.click(corners[0])

    elif tool == "Lasso":

        def draw():
            canvas.drag(*corners)

    else:

        def draw():
            canvas.drag(corners[0], corners[2])

    mask = finished(notebook, draw)
    expected = pixel_mask(WIDE, HIGH, polygon=corners) == 255
    assert disagreement(mask, expected) <= 4


def test_the_cells_shown_are_the_weights_that_a_search_uses(notebook, canvas):
    mask = finished(notebook, lambda: canvas.drag((40, 30), (100, 80)))
    region = mask_to_region(np.where(mask, 255, 0).astype(np.uint8), CELLS, (8, 8))
    weights = notebook.kernel.evaluate("picker.weights()")
    window = weights[region.top : region.top + region.high, region.left : region.left + region.wide]
    np.testing.assert_array_equal(window, region.weights)
    assert np.count_nonzero(weights) == np.count_nonzero(region.weights)
    notebook.page.get_by_role("checkbox", name="Cells").check()
    notebook.screenshot("picker-cells", notebook.page.locator(".vfs-picker"))
    notebook.page.get_by_role("checkbox", name="Cells").uncheck()


def test_undo_redo_invert_and_clear(notebook, canvas):
    first = finished(notebook, lambda: canvas.click((40, 30)))
    second = finished(notebook, lambda: canvas.click((100, 80)))
    press = notebook.page.keyboard.press
    np.testing.assert_array_equal(finished(notebook, lambda: press("Control+z")), first)
    np.testing.assert_array_equal(finished(notebook, lambda: press("Control+Shift+Z")), second)
    np.testing.assert_array_equal(finished(notebook, lambda: press("i")), ~second)
    assert not finished(notebook, lambda: press("Delete")).any()
    undo = notebook.page.get_by_role("button", name="Undo")
    np.testing.assert_array_equal(finished(notebook, undo.click), ~second)
    np.testing.assert_array_equal(finished(notebook, undo.click), second)


def test_similar_cells_that_hang_together_are_filled(notebook, canvas):
    notebook.page.get_by_role("radio", name="Fill similar cells").click()
    mask = finished(notebook, lambda: canvas.click((90, 50)))  # cell (3, 4)
    expected = np.zeros((HIGH, WIDE), bool)
    expected[30:75, 60:120], expected[30:45, 120:140] = True, True
    np.testing.assert_array_equal(mask, expected)
    slider = notebook.page.get_by_label("Least similarity")
    mask = finished(notebook, lambda: slider.fill("0.9"))
    expected[30:45, 120:140] = False
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(finished(notebook, lambda: slider.fill("-1")), np.ones_like(mask))


def test_keyboard_alone(notebook, canvas):
    page = notebook.page
    page.get_by_role("radio", name="Brush").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Eraser")).to_be_focused()
    page.keyboard.press("b")
    canvas.locator.focus()
    page.keyboard.press("ArrowRight")  # the cursor appears in the middle
    mask = finished(notebook, lambda: page.keyboard.press("Space"))
    expected = np.zeros((HIGH, WIDE), bool)
    expected[60:75, 80:100] = True
    np.testing.assert_array_equal(mask, expected)
    page.keyboard.press("ArrowUp")
    mask = finished(notebook, lambda: page.keyboard.press("Space"))
    expected[45:60, 80:100] = True
    np.testing.assert_array_equal(mask, expected)
    notebook.screenshot("picker-keyboard", page.locator(".vfs-picker"))
    mask = finished(notebook, lambda: page.keyboard.press("Shift+Space"))
    expected[45:60] = False
    np.testing.assert_array_equal(mask, expected)
    page.keyboard.press("?")
    expect(page.get_by_text("move the cell cursor")).to_be_visible()
    notebook.screenshot("picker-help", page.locator(".vfs-picker"))
    page.keyboard.press("Escape")
    expect(page.get_by_text("move the cell cursor")).to_be_hidden()
    assert page.locator(".jp-Notebook .jp-Cell").count() == 1  # "b" and "x" were not Jupyter's


def test_the_wheel_sizes_the_brush_and_zooms_with_control(notebook, canvas):
    page, before = notebook.page, radius(notebook)
    page.mouse.move(*canvas.at((80, 60))[0])
    page.mouse.wheel(0, -100)
    page.wait_for_function(
        "(r) => document.querySelector('[aria-label^=Radius]').value > r", arg=before
    )
    page.mouse.wheel(0, 100)
    zoom = page.locator(".vfs-toolbar output").last
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    expect(zoom).to_have_text("125 %")
    size = radius(notebook)
    mask = finished(notebook, lambda: canvas.click((80, 60)))  # zoomed about this very point
    assert disagreement(mask, stroked((HIGH, WIDE), [(80, 60)], size)) <= 4
    page.keyboard.press("0")
    expect(zoom).to_have_text("100 %")


def test_touch_paints(notebook, canvas):
    [(x, y)] = canvas.at((60, 60))
    session = notebook.page.context.new_cdp_session(notebook.page)

    def touch(kind, points):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def stroke():
        touch("touchStart", [{"x": x, "y": y}])
        touch("touchMove", [{"x": x + 90, "y": y}])
        touch("touchEnd", [])

    mask = finished(notebook, stroke)
    scale = canvas.locator.bounding_box()["width"] / WIDE
    assert mask[60, 60 : 60 + int(90 / scale)].all()


def test_python_sets_a_mask_and_chooses_an_image(notebook, canvas):
    notebook.kernel.execute(
        "m = np.zeros((120, 160), bool); m[10:50, 20:70] = True; picker.mask = m"
    )
    expect(canvas.locator).to_have_attribute("aria-description", "10 % is highlighted.")
    mask = finished(notebook, lambda: canvas.click((100, 80)))
    assert mask[10:50, 20:70].all()  # the browser painted onto it
    assert mask[80, 100]
    notebook.kernel.execute("picker.number = 1")
    expect(notebook.page.locator(".vfs-caption")).to_have_text(f"{EVIL} · 160 × 120")
    assert not notebook.kernel.evaluate("picker.mask").any()
    notebook.kernel.execute("picker.number = 0")
    expect(notebook.page.locator(".vfs-caption")).to_have_text("chelsea · 160 × 120")
    np.testing.assert_array_equal(notebook.kernel.evaluate("picker.mask"), mask)


def test_a_stroke_while_an_image_opens_changes_neither_image(notebook, canvas):
    mask = finished(notebook, lambda: canvas.click((40, 30)))
    notebook.kernel.execute(
        """
import threading
opened, shown = threading.Event(), picker._shown
picker._shown = lambda number: (opened.wait(60), shown(number))[1]
"""
    )
    (x, y), (right, below) = canvas.at((20, 20), (140, 100))
    gallery = notebook.page.get_by_role("listbox", name="Images")
    gallery.get_by_role("option", name=EVIL).click()
    expect(canvas.locator).to_have_attribute("aria-busy", "true")
    mouse = notebook.page.mouse
    mouse.move(x, y)
    mouse.down()
    mouse.move(right, y)
    notebook.kernel.execute("del picker._shown; opened.set()")
    canvas.empty()
    mouse.move(right, below)
    mouse.up()
    assert not notebook.kernel.evaluate("picker.mask").any()
    notebook.kernel.execute("picker.number = 0")
    expect(notebook.page.locator(".vfs-caption")).to_have_text("chelsea · 160 × 120")
    np.testing.assert_array_equal(notebook.kernel.evaluate("picker.mask"), mask)


def test_names_stay_text_and_bad_images_say_why(notebook, canvas):
    page = notebook.page
    gallery = page.get_by_role("listbox", name="Images")
    gallery.get_by_role("option", name=EVIL).click()
    expect(page.locator(".vfs-caption")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("img[src='x']").count() == 0
    gallery.get_by_role("option", name="bad").click()
    message = page.locator(".vfs-message")
    expect(message).to_contain_text("image")
    notebook.screenshot("picker-error", page.locator(".vfs").last)
    gallery.get_by_role("option", name="broken").click()
    expect(message).to_contain_text("RuntimeError: the disk is on fire")
    assert notebook.kernel.evaluate("1 + 1") == 2
    gallery.get_by_role("option", name="chelsea").click()
    expect(message).to_have_count(0)
    mask = finished(notebook, lambda: canvas.click((40, 30)))
    assert mask[30, 40]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_nothing_is_cut_off(notebook, canvas, theme, size):
    import browser

    finished(notebook, lambda: canvas.drag((50, 25), (60, 50), (90, 60), (110, 40)))
    notebook.theme(theme)
    notebook.resize(browser.WIDE if size == "wide" else browser.NARROW)
    try:
        notebook.settle()
        notebook.screenshot(f"picker-{theme}-{size}")
        sticks_out = notebook.page.evaluate(
            """() => {
              const box = document.querySelector('.vfs-picker').getBoundingClientRect();
              return [...document.querySelectorAll('.vfs-picker *')]
                .filter((el) => !el.closest('.vfs-gallery') && el.getBoundingClientRect().width)
                .filter((el) => el.getBoundingClientRect().right > box.right + 1)
                .map((el) => el.outerHTML.slice(0, 80));
            }"""
        )
        assert sticks_out == []
    finally:
        notebook.resize(browser.WIDE)
        notebook.theme("light")


def test_a_restarted_kernel_is_said(notebook, canvas):
    """The last one: the kernel is another one then."""
    expect(notebook.page.locator(".vfs-caption")).to_contain_text("chelsea")
    notebook.allowed.append("")  # whatever Jupyter logs about closed connections
    notebook.restart_kernel()
    expect(notebook.page.locator(".vfs-message")).to_contain_text("was restarted")
