"""Whatever the store's form and whoever scans it: the same hits, ties included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_caches import made_cache, made_query
from oracle import naive_score, naive_search
from searches import places

from vfs_ops.caches.cache import Cache
from vfs_ops.kernel import blocks, scoring
from vfs_ops.kernel.batches import Batch
from vfs_ops.scans.score_arrays import score_images
from vfs_ops.scans.search import search
from vfs_ops.store.workspace import Workspace

LEAST_COMPACT = 8
"""Channels; torch multiplies int8 wrongly where there is but one."""


@st.composite
def features(draw: st.DrawFn) -> np.ndarray:
    """Draw small feature maps that float16 holds exactly, with many equal ones."""
    images = draw(st.integers(1, 40))
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 40)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    kinds = random.integers(-3, 4, (draw(st.integers(1, 6)), *shape)).astype(np.float32)
    return kinds[random.integers(0, len(kinds), images)]


def loaded(cache: Cache, compact: bool) -> Cache:
    """Return a cache in memory, in the form that is asked for, whatever pays on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "compact_pays", lambda channels: compact)
        held = cache.load(device="cpu")
    assert ("int8" in repr(held)) == compact
    return held


@pytest.fixture(scope="module", autouse=True)
def _compact_is_used() -> Iterator[None]:
    """Score from the compact form wherever it is held."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vfs_ops.kernel.scoring._compact_is_faster", lambda *given: True)
        yield


@settings(max_examples=10)
@given(data=st.data(), maps=features())
def test_hits_depend_on_values_alone(data: st.DataObject, maps: np.ndarray) -> None:
    images, rows, columns, channels = maps.shape
    high, wide = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    weights = np.ones((high, wide), np.float32)
    under = random.integers(1, 5, (high, wide, channels)).astype(np.float32)
    k = data.draw(st.sampled_from([1, 3, 100]))
    labels = [f"l{number}" for number in random.integers(0, 4, images)]
    unique = data.draw(st.sampled_from([None, "label"]))
    sizes = st.sampled_from([1, 2, 4, 8, 16, 64])
    answers = []
    for _ in range(2):
        cache = made_cache(
            Workspace.in_memory(),
            maps,
            dtype=data.draw(st.sampled_from(["float16", "float32"])),
            images_per_shard=data.draw(sizes),
            images_per_chunk=data.draw(sizes),
            codec=data.draw(st.sampled_from(["none", "zstd"])),
            labels=labels,
        )
        forms = ["stored", "in memory", "compact"][: 3 if channels >= LEAST_COMPACT else 2]
        form = data.draw(st.sampled_from(forms))
        if form != "stored":
            cache = loaded(cache, compact=form == "compact")
        query = made_query(cache, weights, under)
        threads = data.draw(st.integers(1, 5))
        answers.append(places(search(cache, query, k, unique_by=unique, threads=threads)))
        many = search(cache, queries=[query, query], k=k, unique_by=unique, threads=threads)
        answers.extend(places(hits) for hits in many)
    assert all(answer == answers[0] for answer in answers)
    groups = None if unique is None else labels
    expected = naive_search(weights, under, maps, k, groups=groups)
    assert len(answers[0]) == len(expected)
    for (score, image, y, x), (other, *_) in zip(answers[0], expected, strict=True):
        # places may differ where the two ways of summing round a tie differently
        found = naive_score(weights, under, maps[image, y : y + high, x : x + wide])
        assert score == pytest.approx(other, abs=1e-12)
        assert score == pytest.approx(found, abs=1e-12)
    scores = score_images(cache, query)
    best = {place[1]: place[0] for place in naive_search(weights, under, maps, images)}
    np.testing.assert_allclose(scores, [best[image] for image in range(images)], atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_compact_form_finds_what_a_triple_loop_finds(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    maps = np.random.default_rng(4).standard_normal((60, 3, 3, 24)).astype(np.float16)
    stored = made_cache(Workspace.in_memory(), maps, images_per_shard=16)
    under = np.random.default_rng(5).standard_normal((2, size, size, 24)).astype(np.float16)
    queries = [made_query(stored, np.ones((size, size)), one) for one in under]
    scored, compact_scores = [], scoring.compact_scores

    def counted(batch: Batch, *others: Any) -> Any:
        scored.append(len(batch))
        return compact_scores(batch, *others)

    monkeypatch.setattr(scoring, "compact_scores", counted)
    answers = search(loaded(stored, compact=True), queries=queries, k=7)
    assert scored == [2] * 4  # tiles, one of each shard
    for one, hits, plain in zip(under, answers, search(stored, queries=queries, k=7), strict=True):
        expected = naive_search(np.ones((size, size)), one.astype(np.float32), maps, 7)
        assert [place[1:] for place in places(hits)] == [place[1:] for place in expected]
        assert places(hits) == places(plain)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_shards_may_be_read_in_any_order(threads: int) -> None:
    maps = np.random.default_rng(3).integers(-2, 3, (48, 2, 2, 2)).astype(np.float32)
    cache = made_cache(Workspace.in_memory(), maps, images_per_shard=4)
    query = made_query(cache, np.ones((1, 1)), maps[5, :1, :1])
    expected = places(search(cache, query, 20, threads=1))
    assert len({score for score, *_ in expected}) < 10  # so there are ties, across shards
    assert len({image // 4 for _, image, _, _ in expected}) > 3
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(cache.receipts))
        shuffled = replace(cache, receipts=tuple(cache.receipts[int(n)] for n in order))
        assert places(search(shuffled, query, 20, threads=threads)) == expected
