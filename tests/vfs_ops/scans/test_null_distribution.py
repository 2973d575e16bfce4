from __future__ import annotations

import numpy as np
import pytest
from made_caches import made_cache, made_query

from vfs_ops.caches.cache import Cache
from vfs_ops.errors import QueryError
from vfs_ops.scans import null_distribution
from vfs_ops.scans.null_distribution import NullScores, null_scores
from vfs_ops.scans.provenance import Ledger, Provenance
from vfs_ops.scans.queries import query_from_row
from vfs_ops.scans.score_arrays import score_map
from vfs_ops.store.workspace import Workspace


@pytest.fixture
def of_nothing(cache: Cache) -> Provenance:
    return Ledger(cache).of_images(np.empty(0, np.int64))


def test_the_same_seed_draws_the_same_regions(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = query_from_row(cache, 7, boxes=[(16.0, 12.0, 48.0, 36.0)])
    first = null_scores(cache, query, samples=150, seed=3)
    monkeypatch.setattr(null_distribution, "_BYTES_AT_ONCE", 5000)  # in many blocks
    again = null_scores(cache, query, samples=150, seed=3)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert not np.array_equal(first.scores, null_scores(cache, query, samples=150, seed=4).scores)
    assert (np.diff(first.scores) >= 0).all()
    assert "150 random regions" in repr(first)
    took = first.provenance
    assert (took.cache, took.executor, took.complete) == (cache.id, "1 thread", True)
    assert (took.images_searched, took.shards_read) == (59, 4)
    assert took.requests >= 4
    assert took.bytes_read >= cache.feature_bytes
    assert took.seconds > took.seconds_scoring > 0


def test_samples_are_windows_of_images_that_may_be_hits() -> None:
    maps = np.random.default_rng(1).standard_normal((12, 3, 4, 5)).astype(np.float16)
    cache = made_cache(Workspace.in_memory(), maps, images_per_shard=4, invalid=[3])
    own = cache.dataset.rows([5], ["digest"])["digest"][0].as_py()
    query = made_query(cache, np.ones((2, 2)), maps[5, :2, :2], digest=own)
    drawn = null_scores(cache, query, samples=2000).scores
    rows = [row for row in range(12) if row not in (3, 5)]
    possible = score_map(cache, query, rows).values.reshape(-1)
    assert set(drawn) == set(possible)  # each of 60 windows is drawn, and no other
    assert 1.0 in null_scores(cache, query, samples=2000, exclude_query_image=False).scores


def test_chance_is_uniform_in_p(of_nothing: Provenance) -> None:
    """A random score's p-value is at most p with probability p, or less: 2,000 draws, 4 sigma."""
    random = np.random.default_rng(0)
    chance = NullScores(np.sort(random.standard_normal(199)), 0, of_nothing)
    values = chance.p_value(random.standard_normal(2000))
    assert values.min() >= 1 / 200
    for level in (0.05, 0.5):
        assert abs((values <= level).mean() - level) < 0.08


def test_percentiles_and_p_values_of_known_scores(of_nothing: Provenance) -> None:
    chance = NullScores(np.array([0.1, 0.2, 0.2, 0.4]), 0, of_nothing)
    np.testing.assert_array_equal(chance.percentile([0.0, 0.2, 0.3, 0.5]), [0, 50, 75, 100])
    np.testing.assert_allclose(chance.p_value([0.0, 0.2, 0.3, 0.5]), [1, 0.8, 0.4, 0.2])
    assert chance.p_value(0.4) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples"),
        ({"seed": -1}, "seed is -1; expected a whole number from 0 up"),
        ({"seed": None}, "seed is None"),
        ({"where": [("uri", "==", "no")]}, "no image is left"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    cache: Cache, options: dict[str, object], message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        null_scores(cache, query_from_row(cache, 7), **options)  # type: ignore[arg-type]
