from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from searches import BOX, places

from vfs_ops.caches.cache import Cache
from vfs_ops.caches.cache_reading import ShardStore
from vfs_ops.caches.receipts import Receipt
from vfs_ops.errors import (
    ExtractorMismatchError,
    QueryError,
)
from vfs_ops.kernel.exact import Pattern
from vfs_ops.scans.queries import Query, query_from_row
from vfs_ops.scans.search import search
from vfs_ops.store.traffic import counting


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


def test_the_rows_of_all_hits_are_read_at_once_and_counted(
    cache: Cache, queries: list[Query]
) -> None:
    search(cache, queries=queries)  # reads the digests of all images
    answers = search(cache, queries=queries, k=20)
    with counting() as rows:
        expected = [cache.dataset.rows(hits.image.tolist()) for hits in answers]
    assert [hits.rows.to_pylist() for hits in answers] == [one.to_pylist() for one in expected]
    features = sum(receipt.feature_bytes for receipt in cache.receipts) + 4 * 16 * 8 * 8 * 4
    assert rows.requests == 4
    assert answers.provenance.requests == 4 * 2 + 1
    assert answers.provenance.bytes_read == features + rows.bytes_read // 4
    assert {hits.provenance.requests for hits in answers} == {9}


def test_own_images_are_found_by_the_others(cache: Cache, queries: list[Query]) -> None:
    answers = search(cache, queries=queries, k=60)
    for number, hits in enumerate(answers):
        assert len(hits) == 59
        assert 11 * number not in hits.image
    with_own = search(cache, queries=queries, k=60, exclude_query_image=False)
    assert [hits.image[0] for hits in with_own] == [0, 11, 22, 33]


@pytest.mark.parametrize("rows", [{12, 13}, {0, 1, 11, 12, 22, 33, 40}])
def test_own_images_alone_are_left_out_where_rows_are_chosen(
    cache: Cache, queries: list[Query], rows: set[int]
) -> None:
    uris = cache.dataset.rows(sorted(rows), ["uri"])["uri"].to_pylist()
    backwards = queries[::-1]
    for searched in (cache, cache.load()):
        answers = search(searched, queries=backwards, k=60, where=[("uri", "in", uris)])
        for own, hits in zip((33, 22, 11, 0), answers, strict=True):
            assert set(hits.image.tolist()) == rows - {own}
            assert hits.provenance.images_searched == len(rows - {own})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"queries": []}, "queries is empty"),
        ({"queries": ["no"]}, "query 0 is a str"),
        ({"queries": 3}, "queries is a int; expected a list"),
        ({"query": 1, "queries": [2]}, "give one of them"),
    ],
)
def test_questions_that_are_none_are_refused(
    cache: Cache, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        search(cache, **given)


def test_one_query_is_no_list(cache: Cache, query: Query) -> None:
    with pytest.raises(QueryError, match=r"queries is a Query; .*one query is given as query"):
        search(cache, queries=query)  # type: ignore[call-overload]


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
