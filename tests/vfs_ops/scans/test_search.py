from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from makers import make_extractor, write_photos
from oracle import naive_search
from searches import BOX, our_threads, places

from vfs_ops.builds.builder import build
from vfs_ops.caches.cache import Cache
from vfs_ops.caches.cache_reading import ShardStore
from vfs_ops.caches.receipts import Receipt
from vfs_ops.datasets import same_images
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import (
    DamagedError,
    ExtractorMismatchError,
    PredicateError,
    QueryError,
    StorageError,
)
from vfs_ops.progress import Progress
from vfs_ops.scans import provenance, run
from vfs_ops.scans.plan import DEFAULT_THREADS, plan_scan
from vfs_ops.scans.queries import Query, query_from_image, query_from_row
from vfs_ops.scans.search import search
from vfs_ops.store.traffic import counting
from vfs_ops.store.workspace import Workspace


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
        assert last.wait(60)
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

    monkeypatch.setattr(ShardStore, "read", broken)
    with pytest.raises(DamagedError, match="shard"):
        search(cache, query)
    assert our_threads() == []


def test_k_beyond_the_dataset_gives_all_of_it(cache: Cache, query: Query) -> None:
    hits = search(cache, query, 10_000)
    assert sorted(hits.image) == [row for row in range(60) if row != 7]


def test_provenance_counts_what_was_done(cache: Cache, query: Query) -> None:
    search(cache, query)  # reads the digests of all images
    hits = search(cache, query)
    found, stored = hits.provenance, sum(receipt.feature_bytes for receipt in cache.receipts)
    with counting() as rows:
        cache.dataset.rows(hits.image.tolist())
    assert found.bytes_read == stored + 4 * 16 * 8 * 8 * 4 + rows.bytes_read
    assert (found.requests, found.shards_read) == (8 + rows.requests, 4)
    assert found.seconds > 0
    assert min(found.seconds_reading, found.seconds_decoding, found.seconds_scoring) > 0
    assert (found.device, found.executor, found.complete) == (
        "cpu",
        f"{DEFAULT_THREADS} threads",
        True,
    )
    assert search(cache, query).to_xarray().attrs["complete"] == 1


def test_the_clock_starts_with_the_call_and_what_is_looked_up_counts(
    cache: Cache, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def slowly(*given: Any, **options: Any) -> Any:
        clock[0] += 5
        return plan_scan(*given, **options)

    for module in (provenance, run):  # not time itself, which all modules share
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setitem(search.__globals__, "plan_scan", slowly)
    same_images._digests.cache_clear()
    first, second = search(cache, query).provenance, search(cache, query).provenance
    assert first.requests == second.requests + 1  # the digests are kept
    assert (first.seconds, second.seconds) == (5, 5)


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
