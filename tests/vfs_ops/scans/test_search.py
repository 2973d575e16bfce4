from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from makers import make_extractor, write_photos
from oracle import naive_search

from vfs_ops.builds.builder import build
from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.caches.cache_reading import ShardStore
from vfs_ops.caches.layout import features_key
from vfs_ops.caches.receipts import Receipt
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.datasets.tables import TableSource
from vfs_ops.errors import (
    DamagedError,
    ExtractorMismatchError,
    IncompleteError,
    PredicateError,
    QueryError,
    StorageError,
)
from vfs_ops.kernel.exact import Pattern
from vfs_ops.progress import Progress
from vfs_ops.scans.hits import Hits
from vfs_ops.scans.queries import Query, query_from_image, query_from_row
from vfs_ops.scans.search import search, search_iter
from vfs_ops.store.workspace import Workspace

BOX = [(16.0, 12.0, 48.0, 36.0)]


def places(hits: Hits) -> list[tuple[float, int, int, int]]:
    columns = (hits.score, hits.image, hits.cell_y, hits.cell_x)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.fixture
def query(cache: Cache) -> Query:
    return query_from_row(cache, 7, boxes=BOX)


def test_hits_are_those_of_a_triple_loop(cache: Cache, query: Query) -> None:
    assert cache.shard_count == 4
    features = cache.feature_maps(0, 60)
    rows = [row for row in range(60) if row != 7]
    expected = naive_search(query.region.weights, query.features, features, 20, rows=rows)
    found = places(search(cache, query, 20))
    assert [place[1:] for place in found] == [place[1:] for place in expected]
    np.testing.assert_allclose([p[0] for p in found], [p[0] for p in expected], atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_change_nothing(cache: Cache, query: Query, threads: int) -> None:
    assert places(search(cache, query, 9, threads=threads)) == places(search(cache, query, 9))


def test_shards_may_come_from_storage_in_any_order(
    cache: Cache, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = places(search(cache, query, 9))
    read, last = ShardStore.read, threading.Event()

    def delayed(self: ShardStore, receipt: Receipt, *others: Any) -> Any:
        if receipt.shard == 3:
            last.set()
        assert last.wait(10)
        return read(self, receipt, *others)

    monkeypatch.setattr(ShardStore, "read", delayed)
    assert places(search(cache, query, 9, threads=4)) == expected


def test_the_query_image_is_left_out_unless_asked_for(cache: Cache, query: Query, photos) -> None:
    assert 7 not in search(cache, query, 60).image
    assert len(search(cache, query, 60)) == 59
    own = search(cache, query, 1, exclude_query_image=False)
    assert places(own)[0][1:] == (7, query.region.top, query.region.left)
    assert own.score[0] == pytest.approx(1, abs=1e-15)
    uri = cache.dataset.rows([7], ["uri"])["uri"][0].as_py()
    from_file = query_from_image(make_extractor(), photos / uri, layer="0", boxes=BOX)
    assert 7 not in search(cache, from_file, 60).image


def test_copies_of_the_query_image_are_left_out_too(tmp_path, workspace: Workspace) -> None:
    write_photos(tmp_path / "some", 5)
    original = tmp_path / "some" / "even" / "0000.png"
    (tmp_path / "some" / "copy.png").write_bytes(original.read_bytes())
    [cache] = build(ingest(str(tmp_path / "some"), workspace), make_extractor(("0",)))
    assert len(search(cache, query_from_row(cache, 0), 10)) == 4


@pytest.fixture
def described(tmp_path, photos, workspace: Workspace, small_shards: None) -> Cache:
    """A cache of 30 images with a label each, but for every fifth, and metadata."""
    uris = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))[:30]
    lines = ["file,label,size,rank"]
    for number, uri in enumerate(uris):
        label = "" if number % 5 == 4 else f"<b>${number % 3}"
        lines.append(f"{photos / uri},{label},{number},{number * 2}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    dataset = ingest(TableSource(str(table), "file", "label"), workspace)
    [cache] = build(dataset, make_extractor(("0",)))
    return cache


def test_a_filter_is_applied_before_the_search(described: Cache) -> None:
    query = query_from_row(described, 3, boxes=BOX)
    hits = search(described, query, 30, where=[("size", ">=", 20), ("label", "==", "<b>$1")])
    labels = described.dataset.table(["label"])["label"].to_pylist()
    expected = [row for row in range(20, 30) if labels[row] == "<b>$1"]
    assert sorted(hits.image.tolist()) == expected
    assert hits.provenance.images_searched == len(expected)
    assert hits.provenance.shards_read == 1
    whole = [place for place in places(search(described, query, 30)) if place[1] in expected]
    assert places(hits) == whole


def test_a_value_gives_one_hit_at_most_and_no_value_stands_for_itself(described: Cache) -> None:
    query = query_from_row(described, 3, boxes=BOX)
    labels = described.dataset.table(["label"])["label"].to_pylist()
    groups = [hash(label) if label else row for row, label in enumerate(labels)]
    hits = search(described, query, 30, unique_by="label")
    expected = naive_search(
        query.region.weights,
        query.features,
        described.feature_maps(0, 30),
        30,
        rows=[row for row in range(30) if row != 3],
        groups=groups,
    )
    assert [place[1:] for place in places(hits)] == [place[1:] for place in expected]
    assert len(hits) == 3 + labels.count(None)
    assert labels.count(None) == 6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, QueryError, "k is 0"),
        ({"k": 1.5}, QueryError, "k is 1.5"),
        ({"k": True}, QueryError, "k is True"),
        ({"threads": 0}, QueryError, "threads is 0"),
        ({"unique_by": "colour"}, QueryError, "one of uri, label, width, height$"),
        ({"where": [("uri", "==", "nothing")]}, QueryError, "none of 60 matches the filter; widen"),
        ({"where": [("colour", "==", 1)]}, PredicateError, "colour"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    cache: Cache, query: Query, options: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        search(cache, query, **options)


def test_a_filter_that_leaves_the_query_image_alone_says_so(cache: Cache, query: Query) -> None:
    uris, digests = (cache.dataset.table([name])[name].to_pylist() for name in ("uri", "digest"))
    own = uris[digests.index(query.digest)]
    with pytest.raises(QueryError, match="1 of 60 match the filter, and the query's own image"):
        search(cache, query, where=[("uri", "==", own)])


@pytest.mark.parametrize("query", [None, 3, "0000.png"])
def test_only_a_query_can_be_searched_for(cache: Cache, query: Any) -> None:
    with pytest.raises(QueryError, match="expected what query_from_image or query_from_row"):
        search(cache, query)


def test_a_query_of_another_layer_is_refused(caches: list[Cache], query: Query) -> None:
    with pytest.raises(ExtractorMismatchError, match="layer"):
        search(caches[1], query)


def test_rows_that_are_not_valid_are_never_hits(
    cache: Cache, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = search(cache, query, 1).image[0]
    monkeypatch.setitem(cache.__dict__, "invalid", {int(best): "unreadable"})
    hits = search(cache, query, 60)
    assert best not in hits.image
    assert len(hits) == 58


def test_progress_counts_shards(cache: Cache, query: Query) -> None:
    told: list[Progress] = []
    search(cache, query, progress=told.append)
    assert {(one.total, one.unit) for one in told} == {(4, "shards")}
    done = [one.done for one in told]
    assert (done[0], done[-1]) == (0, 4)
    assert done == sorted(set(done))


def test_an_error_of_a_reader_reaches_the_caller_and_stops_the_others(
    cache: Cache, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ShardStore, receipt: Receipt, *others: Any) -> Any:
        raise DamagedError(f"shard {receipt.shard} is cut off")

    before = threading.active_count()
    monkeypatch.setattr(ShardStore, "read", broken)
    with pytest.raises(DamagedError, match="shard"):
        search(cache, query)
    assert threading.active_count() == before


@pytest.fixture
def queries(cache: Cache) -> list[Query]:
    boxes = [BOX, [(0.0, 0.0, 12.0, 12.0)], None, [(30.0, 20.0, 64.0, 48.0)]]
    return [query_from_row(cache, 11 * n, boxes=box) for n, box in enumerate(boxes)]


@pytest.mark.parametrize("unique_by", [None, "label"])
def test_many_queries_find_what_each_finds_alone(
    described: Cache, unique_by: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [BOX, [(0.0, 0.0, 12.0, 12.0)], None]
    queries = [query_from_row(described, 3 * n, boxes=boxes[n % 3]) for n in range(10)]
    alone = [search(described, one, 4, unique_by=unique_by) for one in queries]
    read, shards = ShardStore.read, []

    def counted(self: ShardStore, receipt: Receipt, *others: Any) -> Any:
        shards.append(receipt.shard)
        return read(self, receipt, *others)

    monkeypatch.setattr(ShardStore, "read", counted)
    together = search(described, queries=queries, k=4, unique_by=unique_by)
    assert [places(hits) for hits in together] == [places(hits) for hits in alone]
    assert sorted(shards) == [0, 1]
    images = [hits.provenance.images_searched for hits in together]
    assert images == [hits.provenance.images_searched for hits in alone]


def test_the_table_of_many_queries_is_tidy(cache: Cache, queries: list[Query]) -> None:
    answers = search(cache, queries=queries, k=3)
    table = answers.to_frame()
    assert table["query"].tolist() == [number for number in range(4) for _ in range(3)]
    assert table["rank"].tolist() == [1, 2, 3] * 4
    assert table["image"].tolist() == [image for hits in answers for image in hits.image]
    assert (len(answers), len(answers[2])) == (4, 3)
    assert "4 queries" in repr(answers)
    assert "<td>" in answers._repr_html_()


def test_own_images_are_found_by_the_others(cache: Cache, queries: list[Query]) -> None:
    answers = search(cache, queries=queries, k=60)
    for number, hits in enumerate(answers):
        assert len(hits) == 59
        assert 11 * number not in hits.image
    with_own = search(cache, queries=queries, k=60, exclude_query_image=False)
    assert [hits.image[0] for hits in with_own] == [0, 11, 22, 33]


def test_k_beyond_the_dataset_gives_all_of_it(cache: Cache, query: Query) -> None:
    hits = search(cache, query, 10_000)
    assert sorted(hits.image) == [row for row in range(60) if row != 7]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"queries": []}, "queries is empty"),
        ({"queries": ["no"]}, "query 0 is a str"),
        ({"query": 1, "queries": [2]}, "give one of them"),
    ],
)
def test_questions_that_are_none_are_refused(
    cache: Cache, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        search(cache, **given)


def test_extractors_may_not_be_mixed_in_one_batch(caches: list[Cache], query: Query) -> None:
    other = query_from_row(caches[1], 7)
    with pytest.raises(ExtractorMismatchError, match="layer"):
        search(caches[0], queries=[query, other])


def test_a_query_larger_than_the_grid_is_refused(cache: Cache, query: Query) -> None:
    weights = np.ones((9, 2), np.float32)
    large = replace(query, pattern=Pattern.of(weights, np.ones((9, 2, 6), np.float32)))
    with pytest.raises(QueryError, match=r"query 1 covers 9 × 2 cells.*8 × 8"):
        search(cache, queries=[query, large])


def test_a_filter_that_leaves_a_query_its_own_image_says_which(
    cache: Cache, queries: list[Query]
) -> None:
    [uri] = cache.dataset.rows([11], ["uri"])["uri"].to_pylist()
    with pytest.raises(QueryError, match="for query 1: the filter leaves its own image"):
        search(cache, queries=queries, where=[("uri", "==", uri)])


def test_partial_results_grow_and_the_last_is_the_answer(cache: Cache, query: Query) -> None:
    seen = []
    with search_iter(cache, query, 9, threads=1) as run:
        assert run.plan.images == 59
        for partial in run:
            seen.append((partial.fraction, partial.complete, len(partial.hits)))
            provenance = partial.hits.provenance
            assert provenance.shards_read == partial.done
    assert seen[-1] == (1.0, True, 9)
    assert [fraction for fraction, _, _ in seen] == sorted({fraction for fraction, _, _ in seen})
    assert all(not complete for fraction, complete, _ in seen if fraction < 1)
    assert places(partial.hits) == places(search(cache, query, 9))  # type: ignore[arg-type]


def test_a_search_is_cancelled_within_a_shard(
    cache: Cache, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, started, go_on = ShardStore.read, threading.Event(), threading.Event()

    def slow(self: ShardStore, receipt: Receipt, *others: Any) -> Any:
        if receipt.shard == 1:
            started.set()
            assert go_on.wait(30)
        return read(self, receipt, *others)

    monkeypatch.setattr(ShardStore, "read", slow)
    before = threading.active_count()
    run = search_iter(cache, query, threads=1)
    other = threading.Thread(
        target=lambda: (started.wait(30), run.cancel(), go_on.set()), daemon=True
    )
    other.start()
    partials = list(run)
    other.join()
    assert [partial.done for partial in partials] == [1]  # shard 1 was read, and not scored
    assert not partials[-1].complete
    assert not partials[-1].hits.provenance.complete
    assert "INCOMPLETE" in repr(partials[-1].hits)
    assert threading.active_count() == before


def test_leaving_a_search_early_ends_its_threads(cache: Cache, query: Query) -> None:
    before = threading.active_count()
    with search_iter(cache, query, threads=3) as run:
        next(run)
    assert threading.active_count() == before
    search_iter(cache, query).close()  # before it began
    assert threading.active_count() == before


def test_an_interrupt_by_the_progress_callback_stops_the_search(cache: Cache, query: Query) -> None:
    def stop(progress: Progress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        search(cache, query, progress=stop)
    assert threading.active_count() == before


def test_torch_keeps_its_threads(cache: Cache, query: Query) -> None:
    before = torch.get_num_threads()
    search(cache, query)
    assert torch.get_num_threads() == before


def test_provenance_counts_what_was_done(cache: Cache, query: Query) -> None:
    found = search(cache, query).provenance
    stored = sum(receipt.feature_bytes for receipt in cache.receipts) + 4 * 16 * 8 * 8 * 4
    assert (found.bytes_read, found.requests, found.shards_read) == (stored, 8, 4)
    assert found.seconds > 0
    assert min(found.seconds_reading, found.seconds_decoding, found.seconds_scoring) > 0
    assert (found.device, found.executor, found.complete) == ("cpu", "2 threads", True)
    assert search(cache, query).to_xarray().attrs["complete"] == 1


def test_a_second_query_on_a_resident_cache_reads_nothing(
    cache: Cache, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = places(search(cache, query, 20))
    resident = cache.load()
    assert resident.resident
    assert not cache.resident

    def refused(*given: Any) -> Any:
        raise StorageError("there must be no request")

    for name in ("read", "read_into"):
        monkeypatch.setattr(Workspace, name, refused)
    for _ in range(2):
        hits = search(resident, query, 20)  # but for the rows of the hits, in the manifest
        assert places(hits) == expected
        assert (hits.provenance.bytes_read, hits.provenance.requests) == (0, 0)
    filtered = search(resident, query, 60, where=[("label", "==", "odd")])
    assert places(filtered) == [
        place for place in places(search(resident, query, 60)) if place[1] in filtered.image
    ]


@pytest.fixture
def partial(cache: Cache) -> Cache:
    """The cache as it was before shard 2 was finished."""
    for name in ("complete.json", "receipts.parquet", "receipts/00002.json"):
        cache.workspace.delete(f"caches/{cache.id}/{name}")
    with pytest.raises(IncompleteError, match=r"3 of 4 shards.*allow_partial"):
        open_cache(cache.workspace, cache.id)
    return open_cache(cache.workspace, cache.id, allow_partial=True)


def test_a_partial_cache_is_searched_only_if_that_is_allowed(partial: Cache, query: Query) -> None:
    assert partial.missing_shards == (2,)
    assert [receipt.shard for receipt in partial.receipts] == [0, 1, 3]
    assert partial.receipt(3).shard == 3
    with pytest.raises(IncompleteError, match="lacks 1 of 4 shards"):
        search(partial, query)
    hits = search(partial, query, 60, allow_partial=True)
    assert sorted(hits.image) == [row for row in range(60) if row != 7 and not 32 <= row < 48]
    found = hits.provenance
    assert (found.complete, found.missing_shards, found.shards_read) == (False, 1, 3)
    assert "INCOMPLETE" in repr(hits)
    assert hits.to_xarray().attrs["complete"] == 0
    with pytest.raises(IncompleteError, match="shard 2"):
        partial.feature_map(33)
    np.testing.assert_array_equal(partial.feature_map(50), partial.feature_maps(48, 60)[2])


def test_a_filter_that_needs_no_missing_shard_gives_a_complete_answer(
    partial: Cache, query: Query
) -> None:
    uris = partial.dataset.table(["uri"])["uri"].to_pylist()[:16]
    hits = search(partial, query, 60, where=[("uri", "in", uris)])
    assert hits.provenance.complete
    assert len(hits) == 15


def test_a_shard_that_vanished_is_left_out_only_if_that_is_allowed(
    cache: Cache, query: Query
) -> None:
    cache.workspace.delete(features_key(cache.id, 1))
    with pytest.raises(IncompleteError, match=r"shard 1 of cache .* is missing"):
        search(cache, query)
    hits = search(cache, query, 60, allow_partial=True)
    assert sorted(hits.image) == [row for row in range(60) if row != 7 and not 16 <= row < 32]
    assert (hits.provenance.complete, hits.provenance.missing_shards) == (False, 1)
