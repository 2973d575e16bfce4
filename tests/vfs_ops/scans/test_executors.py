"""One suite over every executor and every kind of store: they all find the same, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from searches import found

from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.caches.layout import features_key
from vfs_ops.errors import DamagedError, IncompleteError
from vfs_ops.kernel import blocks
from vfs_ops.scans.queries import query_from_row
from vfs_ops.scans.score_arrays import score_images
from vfs_ops.scans.search import search
from vfs_ops.store.workspace import Workspace

BOXES = [[(16.0, 12.0, 48.0, 36.0)], [(0.0, 0.0, 20.0, 20.0)], None]


@pytest.fixture(
    params=[
        "file",
        "memory",
        *(pytest.param(kind, marks=pytest.mark.long) for kind in ("s3", "https")),
    ]
)
def stored(request: pytest.FixtureRequest, cache: Cache, tmp_path: Path) -> Cache:
    """Return the cache of four shards, copied to every kind of store."""
    any_workspace = Workspace.in_memory()
    if request.param == "file":
        any_workspace = Workspace.at(str(tmp_path / "copied"))
    elif request.param == "s3":
        any_workspace = request.getfixturevalue("s3_workspace")
    elif request.param == "https":
        any_workspace = request.getfixturevalue("public_workspace")
    root = Path(cache.workspace.url.removeprefix("file://"))
    for stat in cache.workspace.walk():
        any_workspace.create(stat.path, (root / stat.path).read_bytes())
    if request.param == "https":
        any_workspace = request.getfixturevalue("https_workspace")
    return open_cache(any_workspace, cache.id)


@pytest.fixture(params=["one thread", "threads", "processes", "resident", "local copies"])
def executor(
    request: pytest.FixtureRequest,
    processes: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Return what makes a cache and options of each way to search."""
    monkeypatch.setattr(blocks, "compact_pays", lambda channels: True)
    monkeypatch.setattr("vfs_ops.kernel.scoring._compact_is_faster", lambda *given: True)

    def prepare(cache: Cache) -> tuple[Cache, dict[str, Any]]:
        if request.param == "resident":
            return cache.load(), {}
        if request.param == "local copies":
            return cache.cached_locally(tmp_path / "copies"), {"threads": 2}
        if request.param == "processes":
            if cache.workspace.protocol in ("memory", "https"):
                pytest.skip("other processes see neither our memory nor our test's certificate")
            return cache, {"client": processes}
        return cache, {"threads": 1 if request.param == "one thread" else 5}

    return prepare


def search_with(executor: Any, cache: Cache, query: Any) -> Any:
    opened, how = executor(cache)
    return search(opened, query, **how)


def test_every_executor_on_every_store_finds_the_same(
    cache: Cache, stored: Cache, executor: Any
) -> None:
    queries = [query_from_row(cache, 5 + 20 * n, boxes=box) for n, box in enumerate(BOXES)]
    options: dict[str, Any] = {"where": [("label", "!=", "even")], "unique_by": None}
    expected = search(cache, queries=queries, k=7, threads=1)
    filtered = search(cache, queries=queries, k=40, threads=1, **options)
    opened, how = executor(stored)
    again = search(opened, queries=queries, k=7, **how)
    assert found(again) == found(expected)
    assert again.provenance.complete
    assert again.provenance.shards_read == 4
    assert found(search(opened, queries=queries, k=40, **options, **how)) == found(filtered)
    single = search(opened, queries[0], k=7, **how)
    assert found([single]) == found(expected)[:1]
    scores = score_images(opened, queries[1], **how)
    assert scores.equals(score_images(cache, queries[1], threads=1))


def test_a_damaged_and_a_missing_shard_are_errors_on_every_store(
    stored: Cache, executor: Any
) -> None:
    if not stored.workspace.writable:
        pytest.skip("what is read-only cannot be damaged")
    query = query_from_row(stored, 3)
    key = features_key(stored.id, 2)
    data = bytearray(stored.workspace.read(key))
    data[100] ^= 1
    stored.workspace.delete(key)
    stored.workspace.create(key, bytes(data))
    with pytest.raises(DamagedError, match=r"shard 2 .*checksum"):
        search_with(executor, stored, query)
    stored.workspace.delete(key)
    with pytest.raises(IncompleteError, match=r"shard 2 of cache \w+ is missing"):
        search_with(executor, stored, query)
