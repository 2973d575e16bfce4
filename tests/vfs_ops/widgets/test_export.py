"""Figures saved as one page, opened from disk with the network off."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from makers import make_extractor
from overlay_makers import HOSTILE, make_mapped, panel, point_of, wait_for_cell, wait_for_value
from PIL import Image
from playwright.sync_api import expect

from vfs_ops.errors import NotFoundError, QueryError
from vfs_ops.overlays.transform_study import study_transforms
from vfs_ops.overlays.transforms import rotations, scalings
from vfs_ops.widgets import (
    FactorOverlay,
    SearchPanel,
    SimilarityOverlay,
    TransformStudy,
    base,
    overlay,
)
from vfs_ops.widgets.base import Answer
from vfs_ops.widgets.export import Reply, page, save_page, script_json

TOLERANCE = 1e-6  # of a float32 dot product of unit vectors
EARLY = (6, 8)


class Scripts(HTMLParser):
    """Collects the text of script elements, and all tags."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.comments, self.links = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "data")]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script":
            self.scripts[-1] += data

    def handle_comment(self, data):
        self.comments.append(data)


@pytest.fixture
def opened(browser, screenshots, tmp_path):
    """Return a function that saves a widget and opens the page."""
    from browser import WIDE, offline_page

    stack = []

    def open_it(widget, size=WIDE, theme="light"):
        path = widget.save_html(tmp_path / "figure.html")
        context = offline_page(browser, path, screenshots, size=size, theme=theme)
        watched = context.__enter__()
        stack.append(context)
        scope = watched.page.locator(".vfs-overlay")
        scope.locator("xpath=self::*[@data-shown]").wait_for()
        scope.locator(".vfs-progress").wait_for(state="hidden")
        return watched, scope

    yield open_it
    for context in reversed(stack):
        context.__exit__(None, None, None)


def test_a_saved_overlay_shows_what_python_computes(opened):
    figure = SimilarityOverlay(make_mapped(), title="Saved", colormap="magma")
    watched, scope = opened(figure)
    assert watched.page.title() == "Saved"
    source = (0, 2, (4, 1))
    watched.page.mouse.click(*point_of(scope, *source, EARLY))
    wait_for_cell(scope, *source, 8)
    for image, cell in [(0, (0, 0)), (1, (5, 7))]:
        watched.page.mouse.move(*point_of(scope, 0, image, cell, EARLY))
        expected = figure.similarities(2, (4, 1))[0][image][cell]
        wait_for_value(scope, expected)
    assert scope.get_by_role("combobox", name="Colours").input_value() == "magma"
    assert scope.get_by_role("button", name="Unpin").get_attribute("aria-pressed") == "true"


def test_data_in_many_messages_and_vectors_kept_by_python_are_saved_too(opened, monkeypatch):
    monkeypatch.setattr(base, "MESSAGE_BYTES", 1000)
    figure = SimilarityOverlay(make_mapped(), compute="python", pinned=place(1, 0, 2, 2))
    assert not any("vectors" in str(message.value) for message in figure._messages)
    watched, scope = opened(figure)
    wait_for_cell(scope, 1, 0, (2, 2), 4)
    watched.page.mouse.move(*point_of(scope, 1, 2, (0, 3), (4, 4)))
    expected = figure.similarities(0, (2, 2), 1)[1][2, 0, 3]
    wait_for_value(scope, expected)


def place(layer, image, row, column):
    return {"layer": layer, "image": image, "row": row, "column": column}


def test_labels_of_any_text_stay_text(opened):
    figure = SimilarityOverlay(make_mapped(HOSTILE), title=HOSTILE[1])
    watched, scope = opened(figure)
    names = scope.locator(".vfs-name").all_text_contents()
    assert names == [*HOSTILE, *HOSTILE]
    assert scope.locator(".vfs-title").text_content() == HOSTILE[1]
    assert watched.page.title() == HOSTILE[1]
    watched.page.mouse.move(*point_of(scope, 0, 0, (1, 1), EARLY))
    wait_for_cell(scope, 0, 0, (1, 1), 8)
    assert scope.locator("img").count() == 6
    factors, _ = opened(FactorOverlay(make_mapped(HOSTILE, negative=False), 3, title=HOSTILE[0]))
    assert factors.page.title() == HOSTILE[0]


def test_fingers_read_and_pin(browser, tmp_path):
    figure = SimilarityOverlay(make_mapped())
    path = figure.save_html(tmp_path / "figure.html")
    context = browser.new_context(
        offline=True, has_touch=True, viewport={"width": 420, "height": 800}
    )
    page_ = context.new_page()
    page_.goto(path.as_uri())
    scope = page_.locator(".vfs-overlay")
    scope.locator(".vfs-progress").wait_for(state="hidden")
    source = (0, 0, (3, 3))
    page_.touchscreen.tap(*point_of(scope, *source, EARLY))
    wait_for_cell(scope, *source, 8)
    scope.get_by_role("button", name="Unpin").wait_for()
    # a finger that came down on one panel and was dragged to another reads there
    x, y = point_of(scope, 0, 1, (2, 6), EARLY)
    dragged = {"pointerType": "touch", "clientX": x, "clientY": y, "bubbles": True}
    panel(scope, 0, 0).dispatch_event("pointermove", dragged)
    expected = figure.similarities(0, (3, 3))[0][1, 2, 6]
    wait_for_value(scope, expected)
    wait_for_cell(scope, *source, 8)
    page_.touchscreen.tap(*point_of(scope, *source, EARLY))
    scope.get_by_role("button", name="Pin", exact=True).wait_for()
    context.close()


def test_groups_are_hovered_pinned_and_read(opened):
    figure = FactorOverlay(make_mapped(negative=False), 4)
    watched, scope = opened(figure)
    chips = scope.locator(".vfs-group")
    assert chips.count() == 4
    chips.nth(2).hover()
    scope.locator("xpath=self::*[@data-shown='2']").wait_for()
    chips.nth(2).click()
    strengths = np.stack(figure.factors.strengths)
    parts = strengths / strengths.max(axis=(0, 1, 2))
    watched.page.mouse.move(*point_of(scope, 0, 1, (2, 6), EARLY))
    wait_for_value(scope, parts[1, 2, 6, 2])
    expect(chips.nth(2)).to_have_attribute("aria-pressed", "true")
    watched.page.keyboard.press("Escape")
    scope.locator("xpath=self::*[@data-shown='groups']").wait_for()
    chips.nth(0).focus()
    scope.locator("xpath=self::*[@data-shown='0']").wait_for()
    watched.page.keyboard.press("Tab")
    watched.page.keyboard.press("Enter")
    expect(chips.nth(1)).to_have_attribute("aria-pressed", "true")


def studied(transforms, layers=("0", "2")):
    random = np.random.default_rng(5)
    small = Image.fromarray(random.integers(0, 255, (8, 12, 3), np.uint8))
    image = small.resize((96, 64), Image.Resampling.BICUBIC)
    return study_transforms(image, make_extractor(layers, size=64), transforms)


def test_the_chart_shows_the_curve_and_what_left(opened):
    study = studied(scalings([0.55, 1, 2]))
    figure = TransformStudy(study, axis="factor", pinned=place(0, 0, 5, 7))
    watched, scope = opened(figure)
    wait_for_cell(scope, 0, 0, (5, 7), 16)
    points = scope.locator('.vfs-line[data-line="0"] circle')
    values = [float(point.get_attribute("data-value")) for point in points.all()]
    np.testing.assert_allclose(values, study.curve((5, 7)), atol=TOLERANCE)
    assert values[1] == pytest.approx(1, abs=TOLERANCE)
    panel(scope, 0, 0).focus()
    watched.page.keyboard.press("Escape")
    watched.page.mouse.move(*point_of(scope, 0, 0, (0, 0), (16, 16)))
    wait_for_cell(scope, 0, 0, (0, 0), 16)
    states = scope.locator('.vfs-line[data-line="0"] [data-state]')
    found = [mark.get_attribute("data-state") for mark in states.all()]
    assert found == ["padding", "inside", "left"]
    assert np.isnan(study.curve((0, 0))[2])
    chart = scope.locator(".vfs-chart")
    chart.focus()
    for _ in range(3):
        watched.page.keyboard.press("ArrowRight")
    expect(scope.locator(".vfs-told")).to_contain_text("left the image")
    expect(scope.locator(".vfs-marked")).to_have_count(2)  # the same transform, at both layers
    panel(scope, 0, 1).focus()  # what is looked at now is an image
    watched.page.keyboard.press("ArrowRight")
    expect(scope.locator(".vfs-marked").first).to_contain_text("0.55")


def test_fingers_read_the_chart_and_follow_cells(browser, tmp_path):
    study = studied(rotations([0, 90, 180]), ("0",))
    path = TransformStudy(study).save_html(tmp_path / "figure.html")
    context = browser.new_context(
        offline=True, has_touch=True, viewport={"width": 420, "height": 900}
    )
    page_ = context.new_page()
    page_.goto(path.as_uri())
    scope = page_.locator(".vfs-overlay")
    scope.locator(".vfs-progress").wait_for(state="hidden")
    scope.locator("circle").nth(1).tap(force=True)
    expect(scope.locator(".vfs-marked")).to_contain_text("90°")
    expect(scope.locator(".vfs-told")).to_contain_text("90°")
    page_.touchscreen.tap(*point_of(scope, 0, 3, (2, 3), (16, 16)))
    wait_for_cell(scope, 0, 0, (13, 12), 16)
    scope.get_by_role("button", name="Unpin").wait_for()
    expect(scope.locator(".vfs-marked")).to_contain_text("180°")
    context.close()


def test_a_transformed_image_leads_back_to_the_original(opened):
    study = studied(rotations([90, 180]), ("0",))
    watched, scope = opened(TransformStudy(study))
    watched.page.mouse.move(*point_of(scope, 0, 2, (2, 3), (16, 16)))
    wait_for_cell(scope, 0, 0, (13, 12), 16)
    source = panel(scope, 0, 2).locator('.vfs-cell[data-kind="source"]')
    expect(source).to_be_visible()
    expect(scope.locator(".vfs-marked")).to_contain_text("180")


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 420])
def test_pages_look_right(opened, theme, width):
    figures = {
        "study": TransformStudy(studied(rotations(range(0, 360, 30))), axis="angle (degrees)"),
        "factors": FactorOverlay(make_mapped(negative=False), 8, title="Eight groups"),
        "saved": SimilarityOverlay(make_mapped()),
    }
    for name, figure in figures.items():
        watched, _ = opened(figure, (width, 900), theme)
        watched.page.get_by_role("button", name="Keys and gestures").click()
        watched.screenshot(f"{name}-{theme}-{width}", watched.page.locator("main"))
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_panel_that_groups_its_hits_is_saved_with_them(caches, offline, tmp_path):
    where = [("label", "in", ["even", "odd"]), ("width", ">=", 2)]
    panel = SearchPanel({"early": caches[0]}, rows=[3], k=2, unique_by="label", where=where)
    mask = np.zeros(panel.mask.shape, bool)
    mask[10:30, 16:40] = True
    panel.mask = mask
    with offline(panel.save_html(tmp_path / "hits.html")) as watched:
        expect(watched.page.locator(".vfs-hit")).to_have_count(2)
        labels = watched.page.locator(".vfs-hit-label").all_inner_texts()
        assert sorted(labels) == ["even", "odd"]
        asked = (
            "2 hits of each cache, one per label, where label is one of even, odd and width >= 2"
        )
        expect(watched.page.get_by_text(asked, exact=True)).to_be_visible()


def test_a_page_loads_nothing_and_its_scripts_are_ours():
    text = page(
        title=HOSTILE[1],
        module="export default { render() {} };",
        css="",
        state={"label": HOSTILE},
        replies=[Reply("data", {"name": HOSTILE[1]}, Answer({"text": HOSTILE[0]}, [b"</script>"]))],
    )
    found = Scripts(text)
    assert len(found.scripts) == 2
    assert not found.comments
    assert "img" not in found.tags
    assert json.loads(found.scripts[0])["state"]["label"] == list(HOSTILE)
    assert not found.links
    assert "default-src &#x27;none&#x27;" in text


def test_json_in_a_script_reads_back():
    value = {"a": [*HOSTILE, "&amp;", "\u2028", "ü"], "b": None, "c": [1.5, True]}
    text = script_json(value)
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="Out of range"):
        script_json(float("nan"))


def test_a_failed_save_leaves_what_was_there(tmp_path):
    figure = SimilarityOverlay(make_mapped())
    target = tmp_path / "figure.html"
    target.write_text("before")
    with pytest.raises(ValueError, match="Out of range"):
        save_page(target, title="", module="", css="", state={"x": float("inf")}, replies=[])
    assert target.read_text() == "before"
    assert figure.save_html(target) == target
    assert target.read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.html"]
    with pytest.raises(NotFoundError):
        figure.save_html(tmp_path / "nowhere" / "figure.html")


@pytest.mark.parametrize("compute", ["browser", "python"])
def test_what_is_too_large_for_a_page_is_refused(tmp_path, monkeypatch, compute):
    figure = SimilarityOverlay(make_mapped(), compute=compute)
    monkeypatch.setattr(overlay, "EXPORT_BYTES", 2000)
    with pytest.raises(QueryError, match="fewer images"):
        figure.save_html(tmp_path / "figure.html")
    assert not list(tmp_path.iterdir())
