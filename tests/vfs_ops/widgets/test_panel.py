"""SearchPanel's Python side, without a browser."""

import errno
import io
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from waiting import until

from vfs_ops.errors import ExtractorMismatchError, PredicateError, QueryError, StorageFullError
from vfs_ops.scans.queries import Query
from vfs_ops.scans.search import search
from vfs_ops.widgets.filters import describe_columns, read_filters
from vfs_ops.widgets.panel import SearchPanel
from vfs_ops.widgets.run_lengths import encode_runs
from vfs_ops.widgets.searching import Searcher


class Browser:
    """What a browser would ask, and what it would hear."""

    def __init__(self, panel, monkeypatch):
        self.panel, self.heard, self.events = panel, {}, []
        self._news = threading.Condition()
        monkeypatch.setattr(panel, "send", self._hear)

    def _hear(self, message, buffers=()):
        if message["kind"] == "event":
            self.events.append((message["name"], message["value"]))
        else:
            with self._news:
                self.heard[message["id"]] = (message, list(buffers))
                self._news.notify_all()

    def ask(self, name, value=None, buffers=(), request=1):
        self.heard.pop(request, None)
        message = {"kind": "request", "id": request, "name": name, "value": value or {}}
        self.panel._receive(self.panel, message, list(buffers))
        return self.answer(request)

    def answer(self, request):
        """Wait for the answer to a request."""
        with self._news:
            assert self._news.wait_for(lambda: request in self.heard, 60)
            return self.heard[request]

    def highlight(self, mask, number=0):
        value = {"number": number, "done": True, "view": "here"}
        return self.ask("mask", value, [memoryview(encode_runs(mask))])

    def search(self, number=0, **options):
        given = {"k": 4, "unique_by": None, "where": [], **options}
        return self.ask("search", {"number": number, "options": given}, request=2)


@pytest.fixture
def mask():
    mask = np.zeros((48, 64), bool)
    mask[10:30, 16:40] = True
    return mask


@pytest.fixture
def panel(caches):
    return SearchPanel({"early": caches[0], "late $x^2$ <b>": caches[1]}, rows=[3, 9], k=4)


@pytest.fixture
def found(panel, mask, monkeypatch):
    browser = Browser(panel, monkeypatch)
    browser.highlight(mask)
    return browser, browser.search()


def test_hits_are_those_of_a_search(panel, caches, mask, found):
    from vfs_ops.scans.queries import query_from_row

    message, previews = found[1]
    assert [row["name"] for row in message["value"]["rows"]] == list(panel.hits)
    assert len(previews) == 8
    for cache, hits, row in zip(caches, panel.hits.values(), message["value"]["rows"], strict=True):
        expected = search(cache, query_from_row(cache, 3, mask=mask), 4)
        assert hits.image.tolist() == expected.image.tolist()
        assert [card["score"] for card in row["cards"]] == expected.score.tolist()


def test_a_hit_becomes_the_next_image(panel, found):
    browser, _ = found
    image = int(panel.hits["early"].image[0])
    message, _ = browser.ask("adopt", {"name": "early", "image": image})
    assert message["value"]["number"] == 2
    number = message["value"]["number"]
    message, _ = browser.search(number=number)
    assert image not in [card["image"] for card in message["value"]["rows"][0]["cards"]]
    message, _ = browser.ask("adopt", {"name": "early", "image": image}, request=3)
    assert "has been replaced" in message["message"]


def test_the_recipe_makes_the_query_again(panel, caches, found):
    recipe = panel.recipe()
    assert recipe.search == {"k": 4}
    again = Query.from_recipe(recipe.to_json(), caches[0])
    hits = search(caches[0], again, **recipe.search)
    assert hits.image.tolist() == panel.hits["early"].image.tolist()


def test_filters_of_the_panel_hold_besides_its_own(caches, mask, monkeypatch):
    always = [["label", "==", "even"]]  # as JSON gives it
    panel = SearchPanel({"early": caches[0]}, rows=[3], where=always)
    browser = Browser(panel, monkeypatch)
    browser.highlight(mask)
    browser.search(k=200, where=[["uri", "!=", "nothing"]])
    assert set(panel.hits["early"].rows["label"].to_pylist()) == {"even"}
    recipe = Query.from_recipe(panel.recipe().to_json(), caches[0])
    again = search(caches[0], recipe, **panel.recipe().search)
    assert again.image.tolist() == panel.hits["early"].image.tolist()


def test_files(panel, found, tmp_path):
    table = pd.read_csv(panel.save(tmp_path / "hits.csv"))
    assert table["cache"].tolist() == ["early"] * 4 + ["late $x^2$ <b>"] * 4
    pd.testing.assert_series_equal(
        pd.read_parquet(panel.save(tmp_path / "hits.parquet"))["image"], table["image"]
    )
    image = Image.open(io.BytesIO(panel.save(tmp_path / "hits.png").read_bytes()))
    assert image.width > image.height
    drawing = ElementTree.parse(panel.save(tmp_path / "hits.svg")).getroot()
    parts = [part for part in drawing if part.tag.endswith("svg")]
    assert len(parts) == 4  # a title and a row of each cache
    assert [float(part.get("y")) for part in parts] == sorted(float(p.get("y")) for p in parts)
    with pytest.raises(QueryError, match="expected png"):
        panel.save(tmp_path / "hits.gif")


def test_a_file_is_replaced_whole_or_not_at_all(panel, found, tmp_path, monkeypatch):
    target = tmp_path / "hits.csv"
    target.write_text("before")

    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageFullError):
        panel.save(target)
    assert target.read_text() == "before"
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_saved_before_something_was_found(panel, tmp_path):
    with pytest.raises(QueryError, match="highlight a region first"):
        panel.save(tmp_path / "hits.csv")


def test_an_empty_mask_and_impossible_options_are_refused(panel, mask, monkeypatch):
    browser = Browser(panel, monkeypatch)
    assert "nothing is highlighted" in browser.search()[0]["message"]
    browser.highlight(mask)
    assert "1 to 200" in browser.search(k=10**6)[0]["message"]
    assert (
        "expected one of uri, label"
        in browser.search(unique_by="x")[0]["value"]["rows"][0]["error"]
    )


def test_panels_that_could_not_work_are_refused(caches, cache):
    with pytest.raises(QueryError, match="no cache"):
        SearchPanel({}, rows=[1])
    with pytest.raises(QueryError, match="no image"):
        SearchPanel(cache)
    with pytest.raises(ExtractorMismatchError, match="give it in extractor="):
        SearchPanel(cache, np.zeros((8, 8, 3), np.uint8))


def test_typed_filters_become_values(cache):
    dataset = cache.dataset
    typed = [["label", "==", "even"], ["width", ">=", "64"], ["label", "in", "even, odd"]]
    assert read_filters(dataset, typed) == [
        ("label", "==", "even"),
        ("width", ">=", 64),
        ("label", "in", ["even", "odd"]),
    ]
    for wrong in (["width", ">=", "wide"], ["nothing", "==", "1"], ["label", "~", "1"]):
        with pytest.raises(PredicateError):
            read_filters(dataset, [wrong])
    columns = {column["name"]: column for column in describe_columns(dataset)}
    assert columns["label"]["values"] == ["even", "odd"]
    assert columns["width"]["kind"] == "number"


class Endless:
    """A search that goes on until it is cancelled."""

    def __init__(self, started):
        self._started, self._stop = started, threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def cancel(self):
        self._stop.set()

    def __iter__(self):
        self._started.release()
        assert self._stop.wait(60)
        return iter(())


def test_views_are_told_what_runs_and_cancel_names_what_it_ends(panel, mask, monkeypatch):
    browser = Browser(panel, monkeypatch)
    started = threading.Semaphore(0)

    class Run(Endless):
        def __init__(self, *args, **options):
            super().__init__(started)

    monkeypatch.setattr("vfs_ops.widgets.panel.search_iter", Run)
    browser.highlight(mask)
    options = {"k": 4, "unique_by": None, "where": []}

    def begin(request):
        value = {"number": 0, "options": options}
        panel._receive(
            panel, {"kind": "request", "id": request, "name": "search", "value": value}, []
        )
        assert started.acquire(timeout=60)

    begin(5)
    running = {"request": 5, "number": 0}
    assert browser.ask("state")[0]["value"]["panel"]["searching"] == running
    begin(6)  # takes the place of 5
    assert browser.answer(5)[0]["value"]["cancelled"]
    assert panel.searches == 0
    browser.ask("cancel", {"request": 5}, request=7)  # came late: it is not meant for 6
    running = {"request": 6, "number": 0}
    assert browser.ask("state", request=8)[0]["value"]["panel"]["searching"] == running
    assert 6 not in browser.heard
    browser.ask("cancel", {"request": 6}, request=9)
    until(lambda: panel.searches)
    assert browser.answer(6)[0]["value"]["cancelled"]
    assert browser.ask("state", request=10)[0]["value"]["panel"]["searching"] is None
    told = [(name, value["request"]) for name, value in browser.events if name != "mask"]
    assert told == [("searching", 5), ("searching", 6), ("ended", 5), ("ended", 6)]


def test_a_newer_search_ends_the_older():
    searcher, started, outcomes = Searcher(), threading.Semaphore(0), []
    first = searcher.start(
        {"a": lambda: Endless(started), "b": lambda: pytest.fail("never begun")},
        lambda name, part: None,
        outcomes.append,
    )
    assert started.acquire(timeout=60)
    second = searcher.start({}, lambda name, part: None, outcomes.append)
    first.join(60)
    second.join(60)
    assert sorted(outcome.cancelled for outcome in outcomes) == [False, True]
