from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from makers import make_extractor
from scipy.stats import kendalltau, spearmanr

from vfs_ops.caches.cache import Cache
from vfs_ops.errors import MismatchError, QueryError
from vfs_ops.scans.comparison import Comparison, compare
from vfs_ops.scans.plan import DEFAULT_THREADS
from vfs_ops.scans.queries import Query, query_again, query_from_image, query_from_row
from vfs_ops.scans.score_arrays import score_images
from vfs_ops.scans.search import search

BOX = [(16.0, 12.0, 48.0, 36.0)]


@pytest.fixture
def queries(caches: list[Cache]) -> list[Query]:
    return [query_from_row(caches[0], row, boxes=BOX) for row in (7, 20, 33)]


def test_numbers_are_those_computed_one_by_one(caches: list[Cache], queries: list[Query]) -> None:
    named = dict(zip(("early", "late"), caches, strict=True))
    comparison = compare(queries, named, k=8)
    table = comparison.per_query().set_index(["measure", "query"]).sort_index()
    for number, query in enumerate(queries):
        late = query_again(query, caches[1])
        hits = [search(caches[0], query, 8), search(caches[1], late, 8)]
        shared = len(set(hits[0].image) & set(hits[1].image)) / 8
        assert table.loc[("overlap", number), "value"].item() == shared
        others = np.arange(60) != (7, 20, 33)[number]  # the query's own is no hit, either
        a, b = (
            score_images(*one).values[others] for one in zip(caches, (query, late), strict=True)
        )
        for measure, expected in (("spearman", spearmanr(a, b)), ("kendall", kendalltau(a, b))):
            assert table.loc[(measure, number), "value"].item() == pytest.approx(expected[0])
        labels = [len(set(one.rows["label"].to_pylist())) for one in hits]
        assert table.loc[("distinct_labels", number), "value"].tolist() == labels
        np.testing.assert_array_equal(comparison.hits["late"][number].score, hits[1].score)


def test_what_each_cache_took_is_told(caches: list[Cache], queries: list[Query]) -> None:
    named = dict(zip(("early", "late"), caches, strict=True))
    comparison = compare(queries, named, k=8)
    for name, cache in named.items():
        took, hits = comparison.provenance[name], comparison.hits[name][0].provenance
        assert (took.cache, took.complete, took.executor) == (
            cache.id,
            True,
            f"{DEFAULT_THREADS} threads",
        )
        assert (took.images_searched, took.shards_read) == (120, 8)  # for the hits, and for ranks
        assert took.bytes_read > 2 * cache.feature_bytes
        assert took.seconds > hits.seconds
    early, late = comparison.provenance.values()
    assert late.requests > early.requests  # its queries were read as well


def test_the_table_has_means_and_standard_errors(caches: list[Cache], queries: list[Query]) -> None:
    comparison = compare(queries, caches, k=5)
    table, each = comparison.to_frame(), comparison.per_query()
    assert sorted(table["measure"]) == [
        *("distinct_labels", "distinct_labels", "kendall", "overlap", "spearman")
    ]
    assert set(table["queries"]) == {3}
    assert set(table["k"]) == {5}
    overlap = each.loc[each["measure"] == "overlap", "value"]
    row = table[table["measure"] == "overlap"].iloc[0]
    assert row["mean"] == pytest.approx(overlap.mean())
    assert row["standard_error"] == pytest.approx(overlap.sem())
    assert "<td>" in comparison._repr_html_()
    assert "2 caches" in repr(comparison)


def test_one_query_has_no_standard_error(caches: list[Cache], queries: list[Query]) -> None:
    table = compare(queries[:1], caches, k=5).to_frame()
    assert table["standard_error"].isna().all()
    assert table["mean"].notna().all()


def test_a_cache_agrees_with_itself(caches: list[Cache], queries: list[Query]) -> None:
    table = compare(queries, {"a": caches[0], "b": caches[0]}, k=9).to_frame().set_index("measure")
    for measure in ("overlap", "spearman", "kendall"):
        assert table.loc[measure, "mean"] == pytest.approx(1)


def test_the_sample_of_images_is_seeded(caches: list[Cache], queries: list[Query]) -> None:
    def correlations(seed: int) -> list[float]:
        table = compare(queries, caches, sample=20, seed=seed).per_query()
        return table.loc[table["measure"] == "spearman", "value"].tolist()  # type: ignore[no-any-return]

    assert correlations(1) == correlations(1) != correlations(2)


def test_queries_of_other_images_are_given_for_each_cache(
    caches: list[Cache], tmp_path: Any
) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "other.png")
    made = {
        name: [query_from_image(make_extractor(), tmp_path / "other.png", layer=layer, boxes=BOX)]
        for name, layer in (("a", "0"), ("b", "2"))
    }
    named = dict(zip(("a", "b"), caches, strict=True))
    assert isinstance(compare(made, named), Comparison)
    with pytest.raises(QueryError, match="is not in dataset"):
        compare(made["a"], named)
    with pytest.raises(QueryError, match="no queries for cache 'b'"):
        compare({"a": made["a"]}, named)
    with pytest.raises(QueryError, match="same number"):
        compare({"a": made["a"], "b": []}, named)


def test_caches_that_cannot_be_compared_are_refused(
    caches: list[Cache], queries: list[Query], described_elsewhere: Cache
) -> None:
    with pytest.raises(QueryError, match="two or more"):
        compare(queries, caches[:1])
    with pytest.raises(MismatchError, match="other images"):
        compare(queries, {"a": caches[0], "b": described_elsewhere})
    with pytest.raises(QueryError, match="one at least"):
        compare([], caches)


@pytest.fixture
def described_elsewhere() -> Cache:
    from made_caches import made_cache

    from vfs_ops.store.workspace import Workspace

    return made_cache(Workspace.in_memory(), np.ones((60, 8, 8, 6), np.float16))
