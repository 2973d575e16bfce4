"""Many queries, answered in Parquet."""

import json
from datetime import timedelta

import pyarrow.parquet as pq
import pytest

import catalog
from flows.jobs.batch_search import SearchJob
from flows.jobs.query_choices import QueryChoice
from vfs_ops.errors import AccessError, QueryError
from vfs_ops.scans.queries import query_from_row
from vfs_ops.scans.search import search
from vfs_ops.sharing.unused import find_unused
from vfs_ops.store.workspace import Workspace

CACHE = "photos-efficientnet-lite0-blocks.6"


def test_the_answers_are_those_of_the_searches(built, tmp_path):
    choices = (QueryChoice(row=3), QueryChoice(row=5, boxes=((8, 8, 40, 40),)))
    job = SearchJob(workspace=built.url, caches=(CACHE,), queries=choices, k=4)
    searched = job.run()
    [key] = searched.keys
    table = pq.read_table(tmp_path / "vfs-workspace" / key)
    cache = catalog.open_cache(built, CACHE)
    for number, region in enumerate(({}, {"boxes": [(8, 8, 40, 40)]})):
        expected = search(cache, query_from_row(cache, choices[number].row, **region), 4)
        rows = [row for row in table.to_pylist() if row["query"] == number]
        assert [row["image"] for row in rows] == expected.image.tolist()
        assert [row["score"] for row in rows] == expected.score.tolist()
    before = built.walk()
    again = job.run()
    assert (again.id, again.keys, again.found_before) == (searched.id, searched.keys, True)
    assert built.walk() == before


def test_caches_may_lie_elsewhere_and_answers_too(vfs, built, tmp_path):
    before, here, there = built.walk(), tmp_path / "here", tmp_path / "there"
    command = ["-w", here, "search-batch", CACHE, "--row", 3, "-k", 4]
    code, out, err = vfs(*command, "--also", built.url, "--output", there)
    assert code == 0, err
    assert out.startswith(f"file://{there}/searches/")
    found = pq.read_table(out.strip().removeprefix("file://")).to_pylist()
    cache = catalog.open_cache(built, CACHE)
    expected = search(cache, query_from_row(cache, 3), 4)
    assert [row["image"] for row in found] == expected.image.tolist()
    assert built.walk() == before
    assert not here.exists()
    unused = find_unused(Workspace.at(str(there)), (), min_age=timedelta(0))
    assert (unused.unused, unused.unknown) == ((), ())  # its cache is no less there
    assert vfs(*command)[0] == 3  # it has no such cache


def test_who_may_not_write_learns_it_before_anything_is_searched(built, monkeypatch):
    def refuse(*_):
        raise AccessError("the bucket is read-only")

    monkeypatch.setattr(Workspace, "create", refuse)
    monkeypatch.setattr(SearchJob, "_search", None)
    job = SearchJob(workspace=built.url, caches=(CACHE,), queries=(QueryChoice(row=3),))
    with pytest.raises(AccessError, match=r"cannot be written .*read-only.*another output"):
        job.run()


def test_queries_may_come_from_a_file(vfs, built, tmp_path):
    image = next((tmp_path / "photos").rglob("*.png"))
    listed = [{"row": 1}, {"image": str(image), "boxes": [[8, 8, 40, 40]]}]
    (tmp_path / "queries.json").write_text(json.dumps(listed))
    options = ["-k", 2, "--where", "label=odd", "--json"]
    code, out, err = vfs("search-batch", CACHE, "--queries", "queries.json", *options)
    assert code == 0, err
    [place] = json.loads(out)["files"]
    rows = pq.read_table(place.removeprefix("file://")).to_pylist()
    assert [row["query"] for row in rows] == [0, 0, 1, 1]
    assert {row["label"] for row in rows} == {"odd"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "no queries"),
        ("{}", "lists no queries"),
        ("nonsense", "lists no queries"),
        ('[{"row": "x"}]', "0.row"),
        ('[{"row": 1, "image": "a.png"}]', "either a row or an image"),
        ("[{}]", "either a row or an image"),
    ],
)
def test_what_is_no_list_of_queries_is_refused(built, tmp_path, text, says):
    (tmp_path / "queries.json").write_text(text)
    job = SearchJob(workspace=built.url, caches=(CACHE,), queries=str(tmp_path / "queries.json"))
    with pytest.raises(QueryError, match=says):
        job.run()
