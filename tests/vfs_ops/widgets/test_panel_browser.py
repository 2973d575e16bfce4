"""SearchPanel in a real notebook: paint, see hits, cancel, late answers, files, errors."""

import json

import pytest
from makers import cut_small, make_extractor, write_photos
from playwright.sync_api import expect
from pointer import Canvas

from vfs_ops.builds import builder
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.store.workspace import Workspace

EVIL = "<img src=x onerror=alert(1)><!--"

SETUP = """
import threading, numpy as np
from dataclasses import replace
from pathlib import Path
from makers import make_extractor
from vfs_ops.caches.cache import open_cache
from vfs_ops.errors import ImageError
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.store.workspace import Workspace
from vfs_ops.widgets import SearchPanel
from vfs_ops.widgets import panel as module
root = Path({folder!r})
workspace = Workspace.at(str(root / 'workspace'))
caches = dict(zip(['early', 'late </script><script>alert(2)</script>'],
                  [open_cache(workspace, identity) for identity in {ids!r}]))
photo = (root / 'photos' / 'odd' / '0001.png').read_bytes()
thin = np.zeros((1, 4000, 3), np.uint8)
class Picky(FeatureExtractor):
    def prepare(self, image):
        if image.width > 1000:
            raise ImageError('this image is too thin for the model; choose another')
        return super().prepare(image)
extractor = Picky(make_extractor().model, ['0', '2'], device='cpu')
panel = SearchPanel(caches, [photo, thin], names=['photo', 'thin'], extractor=extractor,
                    rows=[4], k=5)
real = module.search_iter
gate, slow, begun = threading.Semaphore(0), [False], []
class Gated:
    'A search that waits at a gate before each shard, unless it is cancelled.'
    def __init__(self, *args, **options):
        self.run, self.stop = real(*args, **options), threading.Event()
        begun.append(self)
    def __enter__(self): return self
    def __exit__(self, *error): self.run.close()
    def cancel(self):
        self.stop.set(); self.run.cancel()
    def __iter__(self):
        for part in self.run:
            # shards that end together come as one part: show one of them before
            first = replace(part, done=1, provenance=replace(part.provenance, complete=False))
            for one in [first, part] if part.complete and slow[0] else [part]:
                while slow[0] and not self.stop.is_set() and not gate.acquire(timeout=0.02): pass
                if self.stop.is_set(): return
                yield one
module.search_iter = Gated
panel
"""
QUIET = "not any(t.name == 'vfs-panel' for t in threading.enumerate())"


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """Return a folder with two caches, and the cell that shows a panel of them."""
    folder = tmp_path_factory.mktemp("panel")
    write_photos(folder / "photos", 48)
    (folder / "photos" / "even").rename(folder / "photos" / EVIL)
    workspace = Workspace.at(str(folder / "workspace"))
    dataset = ingest(str(folder / "photos"), workspace)
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch)
        ids = [cache.id for cache in builder.build(dataset, make_extractor())]
    return folder, SETUP.format(folder=str(folder), ids=ids)


@pytest.fixture(scope="module")
def notebook(open_notebook, setup):
    opened = open_notebook(setup[1])
    opened.folder = setup[0]
    return opened


@pytest.fixture
def canvas(notebook):
    """Return the canvas of the first image, with nothing highlighted."""
    canvas = Canvas(notebook.page.locator("canvas.vfs-stage"), 64)
    canvas.ready()
    notebook.kernel.execute("slow[0] = False; panel.number = 0")
    expect(notebook.page.locator(".vfs-caption")).to_contain_text("photo")
    canvas.ready()
    notebook.kernel.execute("panel.mask = None")
    canvas.empty()
    expect(notebook.page.locator(".vfs-hit")).to_have_count(0)
    notebook.kernel.wait_until(QUIET)  # a search that showing the image began
    notebook.kernel.execute("while gate.acquire(blocking=False): pass")
    yield canvas
    notebook.check()


def row(notebook, number=0):
    return notebook.page.locator(".vfs-found").nth(number)


def tile(notebook, number):
    """Return an image of the strip."""
    return notebook.page.locator(".vfs-thumb").nth(number)


def search(notebook, canvas, *points):
    """Highlight something, and wait for the hits of all caches."""
    before = notebook.kernel.evaluate("panel.searches")
    canvas.drag(*(points or ((20, 20), (40, 28))))
    notebook.kernel.wait_until(f"panel.searches > {before}")
    shown_whole(notebook)
    expect(row(notebook, 1).locator(".vfs-hit")).to_have_count(5)
    expect(notebook.page.locator(".vfs-old")).to_have_count(0)


def shown_whole(notebook):
    """Wait until the browser shows the answer; on a busy machine hits may be partial before."""
    expect(notebook.page.locator(".vfs-found progress:visible")).to_have_count(0)


def choose_k(page, k):
    page.get_by_label("Hits of each cache").click(click_count=3)
    page.keyboard.type(k)
    page.keyboard.press("Enter")


def test_releasing_the_pointer_searches_and_shows_what_python_found(notebook, canvas):
    search(notebook, canvas)
    for number in range(2):
        hits = notebook.kernel.evaluate(
            f"[(float(s), int(i)) for h in [list(panel.hits.values())[{number}]] "
            "for s, i in zip(h.score, h.image)]"
        )
        shown = row(notebook, number).locator(".vfs-score").all_inner_texts()
        assert shown == [f"{score:.3f}" for score, _ in hits]
    # the photo is of the dataset: it is left out
    own = "[list(h.rows['uri'].to_pylist()) for h in panel.hits.values()]"
    assert not any("0001.png" in uri for uris in notebook.kernel.evaluate(own) for uri in uris)
    outlined = row(notebook).locator(".vfs-border").first.get_attribute("d")
    box = notebook.kernel.evaluate("list(panel.hits.values())[0].boxes()[0].tolist()")
    xs = [float(part.split("H")[1].split("M")[0]) for part in outlined.split(" ") if "H" in part]
    assert max(xs) * 64 == pytest.approx(box[2])


def test_labels_and_names_stay_text(notebook, canvas):
    search(notebook, canvas)
    labels = notebook.page.locator(".vfs-hit-label")
    assert EVIL in labels.all_inner_texts()
    titles = notebook.page.locator(".vfs-row-title")
    assert titles.all_inner_texts()[1] == "late </script><script>alert(2)</script>"
    assert notebook.page.locator("img[src='x']").count() == 0
    assert notebook.page.evaluate("() => document.querySelectorAll('.vfs script').length") == 0


def test_shared_images_are_marked_and_counted(notebook, canvas):
    search(notebook, canvas, (4, 4), (60, 10), (60, 40), (4, 40), (4, 20), (60, 25))
    shared = notebook.kernel.evaluate(
        "len(set.intersection(*[set(h.image.tolist()) for h in panel.hits.values()]))"
    )
    assert shared > 0
    expect(notebook.page.locator(".vfs-shared")).to_have_count(2 * shared)
    expect(row(notebook).locator(".vfs-status")).to_contain_text(f"{shared / 5:.2f}")


def test_a_late_answer_is_not_shown_and_partial_results_are(notebook, canvas):
    notebook.kernel.execute("slow[0] = True")
    canvas.drag((10, 10), (20, 14))
    notebook.kernel.execute("gate.release()")
    expect(row(notebook).locator(".vfs-status")).to_contain_text("% searched")
    expect(row(notebook).locator(".vfs-hit")).to_have_count(5)
    # nothing is saved that is not shown
    expect(notebook.page.get_by_role("button", name="CSV", exact=True)).to_be_disabled()
    expect(row(notebook, 1).locator(".vfs-hint")).to_have_text("Searching…")
    notebook.screenshot("panel-partial", notebook.page.locator(".vfs-search"))
    before, runs = notebook.kernel.evaluate("(panel.searches, len(begun))")
    canvas.drag((40, 40), (50, 44))  # another question: the first is cancelled and forgotten
    notebook.kernel.wait_until(f"len(begun) > {runs}")
    notebook.kernel.execute("slow[0] = False")
    notebook.kernel.wait_until(f"panel.searches > {before}")
    shown_whole(notebook)
    expect(row(notebook, 1).locator(".vfs-hit")).to_have_count(5)
    assert notebook.kernel.evaluate("panel.searches") == before + 1
    shown = row(notebook).locator(".vfs-score").all_inner_texts()
    found = notebook.kernel.evaluate("list(panel.hits.values())[0].score.tolist()")
    assert shown == [f"{score:.3f}" for score in found]
    assert "cancelled" not in row(notebook).inner_text()


def test_cancel_keeps_what_was_found(notebook, canvas):
    notebook.kernel.execute("slow[0] = True")
    canvas.drag((10, 10), (20, 14))
    notebook.kernel.execute("gate.release()")
    expect(row(notebook).locator(".vfs-status")).to_contain_text("% searched")
    notebook.page.get_by_role("button", name="Cancel").click()
    expect(row(notebook).locator(".vfs-status")).to_contain_text("cancelled")
    expect(row(notebook, 1).locator(".vfs-status")).to_contain_text("cancelled")
    expect(row(notebook).locator("progress")).to_be_hidden()
    expect(notebook.page.get_by_role("button", name="Cancel")).to_be_disabled()
    # what is shown is what Python has, and what is saved
    kept = "{name: hits.score.tolist() for name, hits in panel.hits.items()}"
    [(name, scores)] = notebook.kernel.evaluate(kept).items()
    assert name == "early"
    shown = row(notebook).locator(".vfs-score").all_inner_texts()
    assert shown == [f"{score:.3f}" for score in scores]
    notebook.kernel.execute("slow[0] = False")
    search(notebook, canvas)


def test_filters_groups_and_k(notebook, canvas):
    search(notebook, canvas)
    page = notebook.page
    page.get_by_role("button", name="Filter…").click()
    page.get_by_label("Column").select_option("label")
    page.get_by_label("Value").fill("odd")
    before = notebook.kernel.evaluate("panel.searches")
    page.get_by_role("button", name="Add", exact=True).click()
    notebook.kernel.wait_until(f"panel.searches > {before}")
    found = "set(list(panel.hits.values())[0].rows['label'].to_pylist())"
    assert notebook.kernel.evaluate(found) == {"odd"}
    page.get_by_role("button", name="Remove the filter label is odd").click()
    notebook.kernel.wait_until(f"panel.searches > {before + 1}")
    page.get_by_label("One hit per").select_option("label")
    notebook.kernel.wait_until(f"panel.searches > {before + 2}")
    assert len(notebook.kernel.evaluate("list(panel.hits.values())[0].image.tolist()")) == 2
    page.get_by_label("One hit per").select_option("")
    choose_k(page, "7")
    expect(row(notebook, 1).locator(".vfs-hit")).to_have_count(7)
    choose_k(page, "900")
    expect(page.locator(".vfs-message")).to_contain_text("expected 1 to 200")
    choose_k(page, "5")
    expect(page.locator(".vfs-message")).to_have_count(0)
    expect(row(notebook, 1).locator(".vfs-hit")).to_have_count(5)


def test_search_from_a_hit(notebook, canvas):
    search(notebook, canvas)
    image = notebook.kernel.evaluate("int(list(panel.hits.values())[0].image[0])")
    before = notebook.kernel.evaluate("panel.searches")
    row(notebook).locator(".vfs-hit").first.hover()
    row(notebook).locator(".vfs-again").first.click()
    notebook.kernel.wait_until(f"panel.searches > {before}")
    number = notebook.kernel.evaluate("panel.number")
    assert number >= 2  # a tile of its own, or the one that is there
    assert notebook.kernel.evaluate("bool(panel.mask.any())")
    best = notebook.kernel.evaluate("list(panel.hits.values())[0].image.tolist()")
    assert image not in best
    assert number < notebook.page.locator(".vfs-thumb").count()
    expect(tile(notebook, number)).to_have_attribute("aria-selected", "true")


def test_files_are_downloaded(notebook, canvas, tmp_path):
    search(notebook, canvas)
    heads = {"PNG": b"\x89PNG", "SVG": b"<?xml", "CSV": b"rank,", "Parquet": b"PAR1"}
    for label, head in heads.items():
        with notebook.page.expect_download() as started:
            notebook.page.get_by_role("button", name=label, exact=True).click()
        started.value.save_as(tmp_path / label)
        assert (tmp_path / label).read_bytes().startswith(head)
    with notebook.page.expect_download() as started:
        notebook.page.get_by_role("button", name="Recipe").click()
    assert started.value.suggested_filename == "hits.json"
    started.value.save_as(tmp_path / "recipe.json")
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["search"] == {"k": 5}
    assert sum(recipe["region"]["runs"]) == 64 * 48


def test_what_cannot_be_searched_is_said_in_the_widget(notebook, canvas):
    page = notebook.page
    tile(notebook, 1).click()
    thin = Canvas(page.locator("canvas.vfs-stage"), 4000)
    expect(page.locator(".vfs-caption")).to_contain_text("4000 × 1")
    thin.drag((100, 0.5), (3000, 0.5))
    expect(row(notebook).locator(".vfs-failed")).to_contain_text("thin")
    notebook.screenshot("panel-error", page.locator(".vfs-search"))
    tile(notebook, 0).click()
    expect(page.locator(".vfs-caption")).to_contain_text("64 × 48")
    search(notebook, canvas)
    shards = notebook.folder / "workspace" / "caches"
    shards.rename(shards.with_name("gone"))
    try:
        canvas.drag((10, 40), (30, 44))
        expect(row(notebook).locator(".vfs-failed")).to_be_visible()
        expect(row(notebook, 1).locator("progress")).to_be_hidden()
    finally:
        shards.with_name("gone").rename(shards)
    search(notebook, canvas, (40, 10), (50, 14))


def test_a_row_of_the_dataset_needs_no_model(notebook, canvas):
    tile(notebook, 2).click()
    expect(notebook.page.locator(".vfs-caption")).not_to_contain_text("photo")
    search(notebook, canvas)
    assert notebook.kernel.evaluate("list(panel.hits.values())[0].query.probe is None")


def test_a_saved_page_shows_the_hits_offline(notebook, canvas, offline):
    search(notebook, canvas)
    page = notebook.folder / "hits.html"
    title = "</title><script>alert(3)</script>"
    notebook.kernel.execute(f"panel.save_html({str(page)!r}, title={title!r})")
    scores = row(notebook).locator(".vfs-score").all_inner_texts()
    for theme in ("light", "dark"):
        with offline(page, theme=theme) as saved:
            expect(saved.page.locator(".vfs-found").first.locator(".vfs-hit")).to_have_count(5)
            shown = saved.page.locator(".vfs-found").first.locator(".vfs-score")
            assert saved.page.title() == title
            expect(saved.page.locator(".vfs-title")).to_have_text(title)
            saved.screenshot(f"panel-saved-{theme}")
            if saved.page.locator(".vfs-thumb").count():  # other tests highlighted others
                saved.page.locator(".vfs-thumb").first.click()
            expect(shown.first).to_have_text(scores[0])
            assert shown.all_inner_texts() == scores
            assert EVIL in saved.page.locator(".vfs-hit-label").all_inner_texts()
            assert saved.page.locator("img[src='x']").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_nothing_is_cut_off(notebook, canvas, theme, size):
    import browser

    search(notebook, canvas)
    notebook.theme(theme)
    width, _ = browser.WIDE if size == "wide" else browser.NARROW
    notebook.resize((width, 2400))  # all of it is seen
    try:
        notebook.settle()
        notebook.screenshot(f"panel-{theme}-{size}", notebook.page.locator(".vfs-search"))
        sticks_out = notebook.page.evaluate(
            """() => {
              const right = document.querySelector('.vfs-search').getBoundingClientRect().right;
              return [...document.querySelectorAll('.vfs-search *')]
                .filter((el) => !el.closest('.vfs-gallery, .vfs-hit-frame'))
                .filter((el) => el.getBoundingClientRect().width)
                .filter((el) => el.getBoundingClientRect().right > right + 1)
                .map((el) => el.outerHTML.slice(0, 80));
            }"""
        )
        assert sticks_out == []
    finally:
        notebook.resize(browser.WIDE)
        notebook.theme("light")


def test_two_views_of_a_panel_and_a_kernel_that_ends_under_a_search(notebook, canvas):
    """The last one: the kernel is another one then."""
    notebook.append("panel")
    views = [notebook.page.locator(".vfs-search").nth(number) for number in range(2)]
    canvases = [Canvas(view.locator("canvas.vfs-stage"), 64) for view in views]
    for view in views:
        expect(view.locator(".vfs-caption")).to_contain_text("photo")
    status = [view.locator(".vfs-status").first for view in views]

    notebook.kernel.execute("slow[0] = True")
    canvases[0].drag((10, 10), (20, 14))
    notebook.kernel.execute("gate.release()")
    expect(status[0]).to_contain_text("% searched")
    # the other view can end it
    views[1].get_by_role("button", name="Cancel").click()
    expect(status[0]).to_contain_text("cancelled")
    expect(views[1].get_by_role("button", name="Cancel")).to_be_disabled()
    notebook.kernel.wait_until(QUIET)

    canvases[0].drag((30, 10), (40, 14))
    notebook.kernel.execute("gate.release()")
    expect(status[0]).to_contain_text("% searched")
    # the other view takes the highlight away, and with it the search
    views[1].get_by_role("button", name="Clear").click()
    expect(views[0].get_by_role("button", name="Cancel")).to_be_disabled()
    expect(views[0].locator(".vfs-hit")).to_have_count(0)
    expect(views[0].locator("progress:visible")).to_have_count(0)
    notebook.kernel.wait_until(QUIET)

    notebook.kernel.execute("slow[0] = False")
    canvases[1].drag((30, 20), (44, 30))
    expect(views[1].locator(".vfs-hit")).to_have_count(10)
    expect(views[0].locator(".vfs-hit")).to_have_count(0)
    notebook.check()

    notebook.kernel.execute("slow[0] = True")
    canvases[1].drag((50, 10), (54, 30))
    notebook.kernel.execute("gate.release()")
    expect(status[1]).to_contain_text("% searched")
    notebook.allowed.append("")  # whatever Jupyter logs about closed connections
    notebook.restart_kernel()
    expect(views[1].locator(".vfs-message")).to_contain_text("was restarted")
    expect(views[1].locator("progress:visible")).to_have_count(0)
    expect(views[1].get_by_role("button", name="Cancel")).to_be_disabled()
