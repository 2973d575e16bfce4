from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vfs_ops.caches import residency
from vfs_ops.caches.cache import Cache
from vfs_ops.caches.residency import ResidentShards, resident_bytes
from vfs_ops.errors import ModelError, QueryError
from vfs_ops.kernel import blocks, scoring
from vfs_ops.kernel.blocks import Block
from vfs_ops.kernel.candidates import Images
from vfs_ops.models import forward
from vfs_ops.progress import Progress
from vfs_ops.scans import runners, tasks
from vfs_ops.scans.plan import plan_scan
from vfs_ops.scans.queries import query_from_row
from vfs_ops.scans.score_arrays import score_images
from vfs_ops.scans.search import search, search_iter
from vfs_ops.store.traffic import counting


def test_what_a_loaded_cache_gives_is_what_the_store_gave(cache: Cache) -> None:
    told: list[Progress] = []
    loaded = cache.load(progress=told.append)
    assert [(one.stage, one.done, one.total) for one in told] == [
        ("load", done, 4) for done in range(5)
    ]
    rows = [40, 3, 3, 59]
    np.testing.assert_array_equal(loaded.feature_maps_of(rows), cache.feature_maps_of(rows))
    np.testing.assert_array_equal(loaded.feature_maps(0, 60), cache.feature_maps(0, 60))
    assert loaded.load() is loaded


def test_a_second_query_pays_for_no_request(cache: Cache) -> None:
    query = query_from_row(cache, 3)
    loaded = cache.load()
    first = search(loaded, query, where=[("label", "==", "odd")], unique_by="uri")
    with counting() as traffic:
        second = search(loaded, query, where=[("label", "==", "odd")], unique_by="uri")
        second.to_frame()
    assert (traffic.requests, traffic.bytes_read) == (0, 0)
    assert first.to_frame().equals(second.to_frame())


def test_memory_that_is_needed_is_what_is_held(cache: Cache) -> None:
    held = cache.load().source
    assert isinstance(held, ResidentShards)
    assert held.nbytes + cache.dataset.manifest.loaded_bytes == resident_bytes(cache)
    assert "4 shards" in repr(held)


def test_a_loaded_cache_shows_its_size_and_form(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "memory" not in repr(cache)
    assert "; 4 shards, 0 MiB in memory, searched by cpu>" in repr(cache.load(device="cpu"))
    monkeypatch.setattr(blocks, "compact_pays", lambda channels: True)
    assert "0 MiB in memory, with an int8 form, searched" in repr(cache.load(device="cpu"))


def test_what_a_gpu_is_given_is_held_here_as_well(cache: Cache) -> None:
    loaded = cache.load(device="cpu")
    held = loaded.source
    assert isinstance(held, ResidentShards)
    there = {
        number: replace(one, block=Block.of(one.features, one.sq_norm, device="meta"))
        for number, one in held.shards.items()
    }
    stored = sum(one.features.nbytes + one.sq_norm.nbytes for one in held.shards.values())
    assert ResidentShards(there, "cuda:0").nbytes == 2 * stored


def test_a_gpu_without_a_number_is_the_current_one(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    loaded = replace(cache, source=ResidentShards({}, "cuda:1"))
    assert loaded.load(device="cuda") is loaded
    assert loaded.load(device="cuda:1") is loaded


def test_a_cache_that_does_not_fit_is_refused_with_both_numbers(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(available=resident_bytes(cache))
    monkeypatch.setattr(residency.psutil, "virtual_memory", lambda: free)
    with pytest.raises(QueryError, match=r"needs 0\.00 GiB of memory and 0\.00 GiB are free"):
        cache.load()
    free.available *= 2
    assert cache.load().resident


def test_the_device_that_searches_is_chosen(cache: Cache) -> None:
    loaded = cache.load(device="cpu")
    assert "searched by cpu" in repr(loaded.source)
    assert loaded.load(device="cpu") is loaded
    assert search(loaded, query_from_row(cache, 3)).provenance.device == "cpu"
    with pytest.raises(ModelError, match=r"no device 'tpu' here; expected one of cpu"):
        cache.load(device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(cache: Cache) -> None:
    with pytest.raises(ModelError, match="no device 'cuda' here; expected one of cpu"):
        cache.load(device="cuda")


def test_a_cache_that_does_not_fit_on_a_gpu_is_refused(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 10, 1 << 30))
    with pytest.raises(QueryError, match=r"GiB of the memory of cuda:1 and 0\.00 GiB are free"):
        cache.load(device="cuda:1")
    with pytest.raises(QueryError, match="mps does not compute in float64"):
        cache.load(device="mps")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_what_the_processor_finds(cache: Cache) -> None:
    query, loaded = query_from_row(cache, 3), cache.load(device="cuda")
    found = search(loaded, query, 20)
    assert found.provenance.device == "cuda"
    assert found.to_frame().equals(search(cache.load(device="cpu"), query, 20).to_frame())
    np.testing.assert_array_equal(loaded.feature_maps_of([3, 40]), cache.feature_maps_of([3, 40]))


def test_shards_in_memory_are_scored_a_few_at_a_time(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = query_from_row(cache, 3)
    loaded, expected = cache.load(), search(cache, query, 20)
    monkeypatch.setattr(runners, "SHARDS_TOGETHER", 3)
    before = torch.get_num_threads()
    with search_iter(loaded, query, 20, threads=2) as run:
        partials = list(run)
    assert [partial.done for partial in partials] == [3, 4]
    np.testing.assert_array_equal(partials[-1].hits.score, expected.score)  # type: ignore[union-attr]
    assert torch.get_num_threads() == before
    monkeypatch.setattr(runners, "SCORED_TOGETHER", 4)
    with search_iter(loaded, queries=[query] * 2) as run:
        assert [partial.done for partial in run] == [2, 4]
    with search_iter(loaded, query, 20) as run:
        assert next(run).done == 3
        run.cancel()
        assert list(run) == []


@pytest.mark.parametrize(
    ("holder", "step"), [(scoring, "_propose"), (scoring, "decide"), (Images, "exact")]
)
def test_a_search_of_memory_is_cancelled_within_a_call(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, holder: Any, step: str
) -> None:
    queries = [query_from_row(cache, row) for row in (3, 4, 5)]
    run, calls, every = getattr(holder, step), [], holder is Images
    stop = threading.Event()

    def cancelled(*given: Any) -> Any:
        calls.append(step)
        stop.set()
        return run(*given)

    monkeypatch.setattr(holder, step, cancelled)
    own = tuple(np.empty(0, np.int64) for _ in queries)
    loaded = cache.load(device="cpu")
    job = tasks.ScanJob(loaded.source, loaded.grid, None if every else 5, own, False)
    scorer = tasks.Scorer(job, [query.pattern for query in queries])
    plan, floors = plan_scan(loaded, threads=1), [-np.inf] * 3
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert scorer.run_together(plan.tasks, floors, stop.is_set) == []
    finally:
        torch.set_num_threads(before)
    assert calls == [step]  # of four shards, or three queries


def test_scores_of_a_cache_in_memory_stop_with_a_shard(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, loaded, calls = query_from_row(cache, 3), cache.load(device="cpu"), []

    def counted(batch: Any, part: Any, *others: Any) -> Any:
        calls.append(len(part.block))
        return scoring.best_scores(batch, part, *others)

    def stop(told: Progress) -> None:
        if told.done:
            raise KeyboardInterrupt

    monkeypatch.setattr(tasks, "best_scores", counted)
    with pytest.raises(KeyboardInterrupt):
        score_images(loaded, query, progress=stop)
    assert calls == [16]  # of 60 images


def test_every_image_is_scored_from_memory(cache: Cache) -> None:
    query = query_from_row(cache, 3)
    assert score_images(cache.load(), query).equals(score_images(cache, query))
