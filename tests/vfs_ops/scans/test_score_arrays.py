from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from made_caches import made_cache, made_query
from oracle import naive_score, naive_search

from vfs_ops.caches.cache import Cache
from vfs_ops.errors import ExtractorMismatchError, QueryError
from vfs_ops.progress import Progress
from vfs_ops.scans.queries import query_from_row
from vfs_ops.scans.score_arrays import score_images, score_map
from vfs_ops.store.workspace import Workspace

BOX = [(16.0, 12.0, 48.0, 36.0)]


def test_every_image_gets_its_best_window(cache: Cache) -> None:
    query = query_from_row(cache, 7, boxes=BOX)
    told: list[Progress] = []
    scores = score_images(cache, query, progress=told.append)
    expected = naive_search(query.region.weights, query.features, cache.feature_maps(0, 60), 60)
    by_image = sorted((image, score, y, x) for score, image, y, x in expected)
    assert scores.dims == ("image",)
    np.testing.assert_array_equal(scores["image"], np.arange(60))
    np.testing.assert_allclose(scores, [score for _, score, _, _ in by_image], atol=1e-12)
    assert scores["cell_y"].values.tolist() == [y for _, _, y, _ in by_image]
    assert scores["cell_x"].values.tolist() == [x for _, _, _, x in by_image]
    assert scores[7] == pytest.approx(1, abs=1e-15)
    assert scores["label"].values.tolist() == cache.dataset.table(["label"])["label"].to_pylist()
    means = scores.groupby("label").mean()
    assert means["label"].values.tolist() == ["even", "odd"]
    assert (told[-1].done, told[-1].total) == (4, 4)


def test_only_images_that_match_and_are_valid_are_scored() -> None:
    maps = np.random.default_rng(1).standard_normal((40, 3, 3, 5)).astype(np.float16)
    cache = made_cache(Workspace.in_memory(), maps, images_per_shard=8, invalid=[11, 3])
    query = made_query(cache, np.ones((2, 2)), maps[0, :2, :2])
    scores = score_images(cache, query, where=[("label", "==", "label 1")], threads=1)
    assert scores["image"].values.tolist() == [1, 21, 31]
    facts = scores.attrs
    assert (facts["complete"], facts["missing_shards"], facts["images_searched"]) == (1, 0, 3)
    assert (facts["cache"], facts["device"], facts["executor"]) == (cache.id, "cpu", "1 thread")
    assert facts["bytes_read"] > 0
    assert facts["seconds"] > facts["seconds_scoring"] > 0
    assert {type(value) for value in facts.values()} == {str, int, float}  # as files hold them


def test_a_map_holds_every_window(cache: Cache) -> None:
    query = query_from_row(cache, 7, boxes=BOX)
    maps = score_map(cache, query, [40, 7, 3])
    high, wide = query.region.weights.shape
    assert maps.shape == (3, 9 - high, 9 - wide)
    assert (maps.attrs["cache"], maps.attrs["images_searched"]) == (cache.id, 3)
    assert (maps.attrs["shards_read"], maps.attrs["complete"]) == (2, 1)
    assert maps.attrs["bytes_read"] > 0
    assert maps.attrs["requests"] >= 3  # two shards, and the labels
    for place, image in enumerate([40, 7, 3]):
        stored = cache.feature_map(image)
        for y in range(9 - high):
            for x in range(9 - wide):
                window = stored[y : y + high, x : x + wide]
                expected = naive_score(query.region.weights, query.features, window)
                assert maps[place, y, x] == pytest.approx(expected, abs=1e-12)
    best = score_images(cache, query)
    xr.testing.assert_equal(
        maps.max(("y", "x")).reset_coords(drop=True),
        best.sel(image=[40, 7, 3]).reset_coords(drop=True),
    )


def test_an_image_without_features_has_an_empty_map() -> None:
    maps = np.ones((4, 2, 2, 3), np.float16)
    cache = made_cache(Workspace.in_memory(), maps, invalid=[2])
    found = score_map(cache, made_query(cache, np.ones((1, 1)), maps[0, :1, :1]), [1, 2])
    np.testing.assert_array_equal(found, [np.ones((2, 2)), np.full((2, 2), np.nan)])


def test_queries_and_images_that_do_not_fit_are_refused(caches: list[Cache]) -> None:
    query = query_from_row(caches[0], 7)
    with pytest.raises(ExtractorMismatchError):
        score_images(caches[1], query)
    with pytest.raises(QueryError, match="0 to 59"):
        score_map(caches[0], query, [60])
    for images in (7, [1.5], [True], ["1"], [[1, 2]]):
        with pytest.raises(QueryError, match=r"images is .*expected a list of rows"):
            score_map(caches[0], query, images)  # type: ignore[arg-type]
    assert score_map(caches[0], query, []).shape[0] == 0


def test_a_filter_that_leaves_only_images_without_features_says_so() -> None:
    maps = np.ones((4, 2, 2, 3), np.float16)
    cache = made_cache(Workspace.in_memory(), maps, invalid=[2])
    query = made_query(cache, np.ones((1, 1)), maps[0, :1, :1])
    with pytest.raises(QueryError, match=r"1 of 4 match the filter, and 1 without .* the filter$"):
        score_images(cache, query, where=[("uri", "==", "000002.jpg")])
