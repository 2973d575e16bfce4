"""The page of a catalog, and in a real browser: what stands in entries stays text."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from browser import chromium
from made_caches import made_cache
from requirements import skip_without
from web_servers import QuietFiles, running_web_server

import catalog
from catalog.about import About, Licences
from catalog.publishing import PAGE_KEY
from vfs_ops.errors import AccessError
from vfs_ops.store.workspace import Workspace

HOSTILE = [
    "</script><script>window.bad = 1</script>",
    '<img src=x onerror="window.bad = 1">',
    "<!-- --><svg onload=window.bad=1>",
    "\"'><b id=injected>",
    "</style><style>body { display: none }",
    "</template></pre></article><h1 id=injected>",
    "{{constructor.constructor('window.bad=1')()}} ${window.bad=1} `x` \\u003cscript>",
    "javascript:window.bad=1 &lt;script&gt; \u2028\u2029\u202e\x1b[31m",
]


@pytest.fixture
def hostile(registered, caches):
    """Return a workspace whose entries hold what would be markup or code."""
    text = " ".join(HOSTILE)
    about = About(
        owner=text[:200],
        description=text,
        split=HOSTILE[1],
        citation=text,
        licences=Licences(*(text[:900] for _ in range(3))),
    )
    catalog.describe(registered, "dataset", "photos", replace(about, owner="vision team"))
    catalog.register_cache(
        registered,
        "hostile",
        caches[1],
        dataset_name="photos",
        about=about,
        built_by=HOSTILE[0],
        flow_run=HOSTILE[1],
    )
    catalog.describe(registered, "cache", "photos-toy-0", About(owner="ann"))
    catalog.set_alias(registered, "cache", "photos-toy-0", "paper", 1)
    catalog.deprecate(registered, "cache", "photos-toy-0", reason=text[:900], successor="hostile")
    catalog.set_alias(registered, "cache", "photos-toy-2", "team-default", 1)
    catalog.deprecate(registered, "dataset", "photos@2", reason=text[:900], successor="photos@1")
    return registered


@pytest.fixture(scope="module")
def browser():
    skip_without("chromium")
    with chromium() as running:
        yield running


@pytest.fixture
def opened(browser):
    """Return what opens a page, with the network off, and keeps its errors."""
    contexts = []

    def opened(url, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()


def visible(page):
    return page.locator("article:visible h3").all_inner_texts()


def test_a_page_is_written_once_and_holds_no_local_path(registered):
    published = catalog.publish(registered)
    page = registered.read(PAGE_KEY).decode()
    assert (published.datasets, published.caches) == (1, 2)
    assert (published.without_previews, published.problems) == ((), ())
    assert len(page.encode()) == published.bytes < 200_000
    assert registered.url.removeprefix("file://") not in page
    assert "data:image/jpeg;base64," in page
    before = registered.stat(PAGE_KEY)
    catalog.publish(registered)
    assert registered.stat(PAGE_KEY) == before
    catalog.publish(registered, url="s3://team/vfs")
    assert "s3://team/vfs" in registered.read(PAGE_KEY).decode()
    assert catalog.read_contents(registered).problems == ()


def test_a_version_where_an_alias_stands_has_its_own_card(workspace):
    """Also if its dataset has grown since: that is shown beside the one of today."""
    for images in (2, 3):
        cache = made_cache(workspace, np.ones((images, 2, 2, 4), np.float16))
        catalog.register_dataset(workspace, "photos", cache.dataset)
        catalog.register_cache(workspace, "toy", cache, dataset_name="photos")
    published = catalog.publish(workspace)
    assert published.caches == 1
    catalog.set_alias(workspace, "cache", "toy", "team-default", 1)
    assert catalog.publish(workspace).caches == 2
    page = workspace.read(PAGE_KEY).decode()
    assert '<a href="#cache-toy@1">team-default → version 1</a>' in page
    newest, older = page.split("<article ")[1:]
    for card, own, other in ((newest, "toy@2", "toy@1"), (older, "toy@1", "toy@2")):
        opening = card.partition("<details>")[0]
        assert f"catalog.open(&quot;{own}&quot;" in opening
        assert f"catalog.open(&quot;{other}&quot;" not in opening
    assert "<span>version 1, not the newest</span><span>2 images</span>" in page
    for name in ("toy", "toy@1"):
        assert page.count(f'id="cache-{name}"') == 1


@pytest.mark.parametrize("missing", ["previews", "manifest.parquet"])
def test_datasets_without_previews_are_shown_without(registered, caches, missing):
    registered.delete(f"datasets/{caches[0].dataset.id}/{missing}")
    published = catalog.publish(registered)
    assert published.without_previews == ("photos",)
    assert len(published.problems) == (missing != "previews")
    assert "<img" not in registered.read(PAGE_KEY).decode()


def test_previews_are_left_out_when_asked(registered, workspace):
    assert catalog.publish(registered, previews=False).without_previews == ("photos",)
    assert "<img" not in registered.read(PAGE_KEY).decode()


def test_an_empty_catalog_has_a_page(workspace):
    assert catalog.publish(workspace).caches == 0
    assert "no entries yet" in workspace.read(PAGE_KEY).decode()


def test_a_deprecation_reads_as_a_sentence(registered):
    for successor, said in (
        (None, "<strong>Deprecated</strong>: old crop</p>"),
        (
            "photos-toy-2",
            '<strong>Deprecated</strong>: old crop; use <a href="#cache-photos-toy-2">'
            "photos-toy-2@1</a> instead</p>",
        ),
    ):
        catalog.deprecate(
            registered, "cache", "photos-toy-0", reason="old crop", successor=successor
        )
        catalog.publish(registered)
        assert said in registered.read(PAGE_KEY).decode()


def test_texts_of_entries_are_escaped(hostile):
    catalog.publish(hostile)
    page = hostile.read(PAGE_KEY).decode()
    assert page.count("<script") == page.count("</script>") == 1
    assert page.count("<style") == page.count("</style>") == 1
    for text in ("<!-- ", "<svg", "<b ", 'onerror="', "\u202e", "\u2028", "\x1b"):
        assert text not in page


def test_nothing_of_an_entry_becomes_markup_or_code(hostile, opened, tmp_path):
    catalog.publish(hostile)
    page = opened((tmp_path / "workspace" / PAGE_KEY).as_uri())
    page.locator("summary").evaluate_all("nodes => nodes.forEach(node => node.click())")
    assert page.evaluate("window.bad") is None
    assert page.locator("#injected").count() == 0
    assert page.locator("article").count() == 4
    links = page.locator('a[href^="#"]').evaluate_all("all => all.map((a) => a.hash.slice(1))")
    assert [name for name in links if page.locator(f'[id="{name}"]').count() != 1] == []
    for text in HOSTILE[:3]:
        assert text in page.locator("#cache-hostile .description").inner_text()
    assert page.errors == []


def test_a_person_filters_searches_and_copies(hostile, opened, tmp_path, caches):
    catalog.publish(hostile)
    url = (tmp_path / "workspace" / PAGE_KEY).as_uri()
    page = opened(url, permissions=["clipboard-read", "clipboard-write"])
    assert visible(page) == ["hostile", "photos-toy-0", "photos-toy-0@1", "photos-toy-2"]
    page.get_by_text("paper → version 1").click()
    page.wait_for_url("**#cache-photos-toy-0@1")
    page.keyboard.press("/")
    page.keyboard.type("TEAM-default 4×4")
    assert visible(page) == ["photos-toy-2"]
    assert page.locator("#count").inner_text() == "1 of 4 caches"
    page.keyboard.press("Escape")
    page.get_by_label("Hide deprecated").check()
    assert visible(page) == ["hostile", "photos-toy-0@1", "photos-toy-2"]
    page.get_by_label("Model").select_option("custom:toy")
    assert visible(page) == ["hostile", "photos-toy-0@1", "photos-toy-2"]
    page.evaluate("() => { window.setTimeout = () => 0; }")  # "Copied" stays until it is seen
    page.get_by_label("Copy the lines that open photos-toy-2").press("Enter")
    page.get_by_text("Copied", exact=True).wait_for()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines == [
        "import catalog",
        f'workspace = "{tmp_path / "workspace"}"',
        'cache = catalog.open("photos-toy-2@1", workspace)',
    ]
    scope = {}
    for line in lines:
        name, _, value = line.partition(" = ")
        scope[name] = value
    reference = scope["cache"].split('"')[1]
    assert catalog.open(reference, scope["workspace"].strip('"')).id == caches[1].id
    assert page.errors == []


def test_served_by_a_web_server_it_names_that_place(registered, opened, tmp_path):
    catalog.publish(registered)
    with running_web_server(functools.partial(QuietFiles, directory=str(tmp_path))) as server:
        place = f"{server.url}/workspace"
        page = opened(f"{place}/{PAGE_KEY}")
        assert f'workspace = "{place}"' in page.locator("#cache-photos-toy-0 .open").inner_text()
        assert page.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_can_be_read(hostile, opened, tmp_path, scheme, width):
    catalog.publish(hostile)
    size = {"width": width, "height": 800}
    url = (tmp_path / "workspace" / PAGE_KEY).as_uri()
    page = opened(url, viewport=size, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    cut = "nodes => nodes.filter((node) => node.scrollWidth > node.clientWidth).length"
    assert page.locator(".open pre").evaluate_all(cut) == 0
    for selector in ("h1", "dt", ".facts span", ".deprecated", ".copy", "summary"):
        assert page.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector


CONTRAST = """node => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  let back = node;
  while (numbers(getComputedStyle(back).backgroundColor)[3] === 0) back = back.parentElement;
  const [a, b] = [node, back].map((each, i) => numbers(
    getComputedStyle(each)[i ? "backgroundColor" : "color"])).map(light);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


def test_a_workspace_that_cannot_be_listed_may_not_be_published_over(registered):
    class Closed(Workspace):
        writable = False

    with pytest.raises(AccessError, match="read-only"):
        catalog.publish(Closed(registered.url))
