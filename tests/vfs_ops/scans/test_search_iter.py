from __future__ import annotations

import inspect
import threading
from typing import Any, get_overloads

import pytest
import torch
from searches import our_threads, places

from vfs_ops.caches.cache import Cache
from vfs_ops.caches.cache_reading import ShardStore
from vfs_ops.caches.receipts import Receipt
from vfs_ops.progress import Progress
from vfs_ops.scans.queries import Query
from vfs_ops.scans.search import search, search_iter


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
            assert go_on.wait(60)
        return read(self, receipt, *others)

    monkeypatch.setattr(ShardStore, "read", slow)
    run = search_iter(cache, query, threads=1)
    other = threading.Thread(
        target=lambda: (started.wait(60), run.cancel(), go_on.set()), daemon=True
    )
    other.start()
    partials = list(run)
    other.join()
    assert [partial.done for partial in partials] == [1]  # shard 1 was read, and not scored
    assert not partials[-1].complete
    assert not partials[-1].hits.provenance.complete
    assert "INCOMPLETE" in repr(partials[-1].hits)
    assert our_threads() == []


def test_leaving_a_search_early_ends_its_threads(cache: Cache, query: Query) -> None:
    with search_iter(cache, query, threads=3) as run:
        next(run)
    assert our_threads() == []
    search_iter(cache, query).close()  # before it began
    assert our_threads() == []


def test_an_interrupt_by_the_progress_callback_stops_the_search(cache: Cache, query: Query) -> None:
    def stop(progress: Progress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(cache, query, progress=stop)
    assert our_threads() == []


def test_every_form_of_search_takes_the_same_options() -> None:
    def options(function: Any) -> dict[str, Any]:
        named = inspect.signature(function).parameters.values()
        return {one.name: one.annotation for one in named if one.kind is one.KEYWORD_ONLY}

    every = options(search)
    assert options(search_iter) == {name: every[name] for name in every if name != "progress"}
    one, many = map(options, get_overloads(search))
    assert one == {name: every[name] for name in every if name != "queries"}
    assert many == every | {"queries": "Sequence[Query]"}


def test_torch_keeps_its_threads(cache: Cache, query: Query) -> None:
    before = torch.get_num_threads()
    search(cache, query)
    assert torch.get_num_threads() == before
