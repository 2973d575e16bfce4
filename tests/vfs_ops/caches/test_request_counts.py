"""How often a storage is asked: for a cache to open, to be scanned, to be listed."""

from typing import Any

import numpy as np
import pytest

import catalog
from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.errors import NotFoundError, UnavailableError
from vfs_ops.scans.queries import query_from_row
from vfs_ops.scans.search import search
from vfs_ops.sharing.mirroring import mirror_cache
from vfs_ops.store.concurrent_reads import read_many, read_ranges
from vfs_ops.store.traffic import counting
from vfs_ops.store.workspace import Workspace


@pytest.fixture
def on_s3(cache: Cache, s3_workspace: Workspace, s3_proxy: Any) -> Workspace:
    mirror_cache(cache.workspace, s3_workspace, cache.id)
    s3_proxy.forget()
    return s3_workspace


def test_a_cache_opens_with_ten_requests_at_most(
    cache: Cache, on_s3: Workspace, s3_proxy: Any
) -> None:
    with counting() as traffic:
        open_cache(on_s3, cache.id)
    assert len(s3_proxy.requests) <= 10
    assert s3_proxy.counts().keys() <= {"GET", "HEAD"}
    assert traffic.requests == len(s3_proxy.requests)
    assert traffic.bytes_read == s3_proxy.sent


def test_a_cache_opens_by_name(cache: Cache, on_s3: Workspace, s3_proxy: Any) -> None:
    catalog.register_dataset(on_s3, "photos", cache.dataset)
    catalog.register_cache(on_s3, "photos-toy", cache, dataset_name="photos")
    s3_proxy.forget()
    catalog.open("photos-toy", on_s3)
    assert len(s3_proxy.requests) <= 20  # 10 for the cache; the rest to find its entry
    s3_proxy.forget()
    assert len(catalog.list_entries(on_s3)) == 2
    assert len(s3_proxy.requests) <= 10


def test_a_scan_takes_four_requests_a_shard_at_most(
    cache: Cache, on_s3: Workspace, s3_proxy: Any
) -> None:
    remote = open_cache(on_s3, cache.id)
    query = query_from_row(cache, 5, boxes=[(8, 8, 40, 40)])
    s3_proxy.forget()
    hits = search(remote, query, k=3)
    assert len(s3_proxy.requests) <= 4 * remote.shard_count
    assert len(hits) == 3
    assert s3_proxy.count(path="features/c/") == remote.shard_count


@pytest.mark.parametrize("how", [None, "503", "reset"])
def test_the_lazy_arrays_are_read(
    cache: Cache, on_s3: Workspace, s3_proxy: Any, how: str | None
) -> None:
    arrays = open_cache(on_s3, cache.id).to_xarray()
    if how:
        s3_proxy.fail(how, method="GET", path="features/c/")
    found = arrays["features"][:20].to_numpy()
    assert (found == cache.feature_maps(0, 20)).all()


def test_many_objects_are_read_in_order_and_in_bounds(
    s3_workspace: Workspace, s3_proxy: Any
) -> None:
    keys = [f"many/{number}" for number in range(150)]
    for key in keys[:100]:
        s3_workspace.create(key, key.encode())
    s3_proxy.forget()
    s3_proxy.fail("503", path="many/7", times=3)
    with counting() as traffic:
        found = list(read_many(s3_workspace, keys))
    assert found == [key.encode() for key in keys[:100]] + [None] * 50
    assert s3_proxy.counts() == {"GET": 153}
    assert traffic.requests == 153
    assert traffic.bytes_read == sum(len(data) for data in found if data)


def test_reading_many_goes_no_further_than_it_is_asked(
    s3_workspace: Workspace, s3_proxy: Any
) -> None:
    asked = (f"many/{number}" for number in range(10_000))
    reading = read_many(s3_workspace, asked, readers=4)
    assert next(reading) is None
    reading.close()
    assert len(s3_proxy.requests) <= 10
    s3_proxy.fail("500", times=float("inf"))
    with pytest.raises(UnavailableError):
        list(read_many(s3_workspace, [f"many/{number}" for number in range(1000)], readers=2))
    assert len(s3_proxy.requests) <= 10 + 6 * 6


def test_ranges_are_read(any_workspace: Workspace) -> None:
    data = np.arange(1000, dtype="<u4").tobytes()
    any_workspace.create("x", data)
    ranges = [(0, 4), (3996, 4000), (100, 300), (100, 101)]
    assert read_ranges(any_workspace, "x", ranges) == [data[a:b] for a, b in ranges]
    assert read_ranges(any_workspace, "x", []) == []
    with pytest.raises(NotFoundError):
        read_ranges(any_workspace, "y", ranges)
    assert list(read_many(any_workspace, ["x", "y"])) == [data, None]
