from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vfs_ops.caches.cache import Cache
from vfs_ops.caches.cache_reading import ShardStore
from vfs_ops.caches.local_copies import CopiesNotKeptWarning
from vfs_ops.caches.receipts import Receipt
from vfs_ops.errors import QueryError
from vfs_ops.scans.queries import query_from_row
from vfs_ops.scans.search import search
from vfs_ops.store.traffic import counting


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the shards that are read from the store, as they are."""
    shards: list[int] = []
    fetch, read = ShardStore.fetch, ShardStore.read

    def counted(self: ShardStore, receipt: Receipt, *others: Any) -> Any:
        shards.append(receipt.shard)
        return fetch(self, receipt, *others)

    def ranged(self: ShardStore, receipt: Receipt, *others: Any) -> Any:
        shards.append(-receipt.shard)
        return read(self, receipt, *others)

    monkeypatch.setattr(ShardStore, "fetch", counted)
    monkeypatch.setattr(ShardStore, "read", ranged)
    return shards


def copies(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.shard"))


def test_what_was_read_is_read_from_disk_the_next_time(
    cache: Cache, tmp_path: Path, fetched: list[int]
) -> None:
    query = query_from_row(cache, 7)
    expected = search(cache, query, 20)
    fetched.clear()
    local = cache.cached_locally(tmp_path / "copies")
    first, second = search(local, query, 20), search(local, query, 20)
    assert sorted(fetched) == [0, 1, 2, 3]
    for hits in (first, second):
        np.testing.assert_array_equal(hits.score, expected.score)
        np.testing.assert_array_equal(hits.image, expected.image)
    with counting() as rows:
        cache.dataset.rows(second.image.tolist())  # these are read again
    assert first.provenance.requests == 8 + rows.requests
    assert second.provenance.requests == rows.requests
    assert second.provenance.bytes_read == rows.bytes_read
    other = cache.cached_locally(tmp_path / "copies")  # as another session would
    np.testing.assert_array_equal(other.feature_maps(14, 40), cache.feature_maps(14, 40))
    assert sorted(shard for shard in fetched if shard > 0) == [1, 2, 3]


def test_the_folder_stays_below_its_limit_and_keeps_what_was_used_last(
    cache: Cache, tmp_path: Path, fetched: list[int]
) -> None:
    folder = tmp_path / "copies"
    size = cache.receipts[0].feature_bytes + 4 * 16 * 64
    local = cache.cached_locally(folder, max_bytes=2 * size + 10)
    for shard in (0, 1):
        local.read_shard(shard)
    for number, path in enumerate(copies(folder)):
        os.utime(path, ns=(0, number))  # both long ago
    local.read_shard(0)
    local.read_shard(2)  # makes room by dropping 1, which was not used since
    assert [path.stem[-5:] for path in copies(folder)] == ["00000", "00002"]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 2 * size + 10
    assert fetched == [0, 1, 2]


def test_a_shard_that_does_not_fit_at_all_is_not_kept(cache: Cache, tmp_path: Path) -> None:
    local = cache.cached_locally(tmp_path / "copies", max_bytes=100)
    local.read_shard(0)
    assert copies(tmp_path / "copies") == []


@pytest.mark.parametrize("limit", [0, -1, 1.5, True])
def test_limits_that_are_none_are_refused(cache: Cache, tmp_path: Path, limit: Any) -> None:
    with pytest.raises(QueryError, match="max_bytes"):
        cache.cached_locally(tmp_path, limit)


@pytest.mark.parametrize("change", ["flip", "cut", "longer", "norms", "empty"])
def test_a_damaged_copy_is_thrown_away_and_read_again(
    cache: Cache, tmp_path: Path, fetched: list[int], change: str
) -> None:
    local = cache.cached_locally(tmp_path / "copies")
    whole = local.read_shard(1)
    [path] = copies(tmp_path / "copies")
    data = bytearray(path.read_bytes())
    if change == "flip":
        data[77] ^= 4
    elif change == "norms":
        data[-5] ^= 4
    stored = {"cut": data[:-9], "longer": data + b"more", "empty": b""}.get(change, data)
    path.write_bytes(stored)
    again = local.read_shard(1)
    np.testing.assert_array_equal(again.features, whole.features)
    np.testing.assert_array_equal(again.sq_norm, whole.sq_norm)
    local.read_shard(1)
    assert fetched == [1, 1]
    assert path.read_bytes() != stored


def test_a_killed_write_is_no_copy(cache: Cache, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    (folder / ".writing").write_bytes(b"half")
    local = cache.cached_locally(folder)
    local.read_shard(0)
    assert len(copies(folder)) == 1
    assert not (folder / ".writing").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_takes_nothing_ends_no_search(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    query, folder = query_from_row(cache, 7), tmp_path / "copies"
    expected, local = search(cache, query, 20), cache.cached_locally(folder)
    local.read_shard(0)

    def refused(*given: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    for name in ("_locked", "os.utime", "Path.unlink"):
        monkeypatch.setattr(f"vfs_ops.caches.local_copies.{name}", refused)
    with pytest.warns(CopiesNotKeptWarning, match=r"copies keeps no copies .*make room") as told:
        hits = search(local, query, 20)
    assert len(told) == 1
    np.testing.assert_array_equal(hits.score, expected.score)
    again = search(local, query, 20)  # warns no more
    np.testing.assert_array_equal(again.image, expected.image)
    [copy] = copies(folder)
    copy.write_bytes(bytes(len(copy.read_bytes())))
    np.testing.assert_array_equal(search(local, query, 20).image, expected.image)


def test_a_copy_that_cannot_be_read_ends_no_search(
    cache: Cache, tmp_path: Path, fetched: list[int]
) -> None:
    query = query_from_row(cache, 7)
    local = cache.cached_locally(tmp_path / "copies")
    expected = search(local, query, 20)
    first = copies(tmp_path / "copies")[0]
    first.unlink()
    first.mkdir()  # which root cannot read either
    fetched.clear()
    with pytest.warns(CopiesNotKeptWarning, match=r"copies keeps no copies"):
        found = search(local, query, 20)
    assert fetched == [0]
    np.testing.assert_array_equal(found.score, expected.score)


def test_a_few_rows_are_read_in_ranges_and_not_kept(
    cache: Cache, tmp_path: Path, fetched: list[int]
) -> None:
    local = cache.cached_locally(tmp_path / "copies")
    uris = cache.dataset.table(["uri"])["uri"].to_pylist()
    search(local, query_from_row(cache, 40), where=[("uri", "==", uris[17])])
    assert fetched == [-1]
    assert copies(tmp_path / "copies") == []


def test_processes_may_share_a_folder(cache: Cache, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    size = cache.receipts[0].feature_bytes + 4 * 16 * 64
    script = textwrap.dedent(
        f"""
        from vfs_ops.caches.cache import open_cache
        from vfs_ops.store.workspace import Workspace
        cache = open_cache(Workspace.at({cache.workspace.url!r}), {cache.id!r})
        local = cache.cached_locally({str(folder)!r}, {2 * size})
        for _ in range(12):
            for shard in range(4):
                local.read_shard(shard)
        """
    )
    running = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert 0 < sum(path.stat().st_size for path in copies(folder)) <= 2 * size
    local = cache.cached_locally(folder, 2 * size)
    for shard in range(4):
        np.testing.assert_array_equal(
            local.read_shard(shard).features, cache.read_shard(shard).features
        )
