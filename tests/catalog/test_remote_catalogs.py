"""Catalogs on a real S3 server and behind https: requests are bounded, and nobody need list."""

import fsspec
import pytest
from s3_server import forget_file_systems

import catalog
from vfs_ops.errors import AccessError
from vfs_ops.scans.queries import query_from_row
from vfs_ops.scans.search import search


def copied(source, target):
    for stat in source.walk():
        target.create(stat.path, source.read(stat.path))
    return target


def test_opening_by_name_and_scanning_take_few_requests_however_many_entries(
    registered, caches, s3_workspace, s3_proxy
):
    for number in range(20):
        catalog.register_cache(registered, f"more-{number}", caches[0], dataset_name="photos")
    copied(registered, s3_workspace)
    s3_proxy.forget()
    opened = catalog.open("photos-toy-2", s3_workspace)
    assert opened.id == caches[1].id
    counts = s3_proxy.counts()
    assert sum(counts.values()) <= 10, counts
    query = query_from_row(opened, 3, boxes=[(8, 8, 40, 40)])
    s3_proxy.forget()
    hits = search(opened, query, 3)
    counts = s3_proxy.counts()
    assert set(counts) == {"GET"}
    assert s3_proxy.count("GET", "data.zarr") == 2 * opened.shard_count == 8
    assert counts["GET"] <= 8 + 2, counts  # labels and previews of what was found
    assert hits.provenance.shards_read == opened.shard_count
    s3_proxy.forget()
    assert len(catalog.find_all(s3_workspace)) == 23
    assert sum(s3_proxy.counts().values()) <= 3


@pytest.fixture
def anonymous(s3_environment, monkeypatch):
    """Return what makes this process a stranger."""
    if s3_environment.kind == "moto":
        pytest.skip("moto refuses nobody")
    names = [name for name in s3_environment.environment() if "KEY" in name]

    def anonymous():
        for name in names:
            monkeypatch.delenv(name)
        monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True})
        forget_file_systems()

    yield anonymous
    monkeypatch.undo()
    forget_file_systems()


@pytest.fixture
def public(registered, public_workspace):
    return copied(registered, public_workspace)


def test_a_bucket_that_refuses_to_be_listed_is_read_by_its_index(public, caches, anonymous):
    anonymous()
    with pytest.raises(AccessError):
        public.walk("catalog")
    assert len(catalog.find_all(public)) == 3
    assert catalog.open("photos-toy-0", public).id == caches[0].id


def test_where_nothing_can_be_listed_and_no_index_is_there_it_says_so(public, anonymous):
    public.delete("catalog/index.json")
    anonymous()
    with pytest.raises(AccessError):
        catalog.find_all(public)


def test_behind_https_the_index_is_all_there_is(public, caches, https_workspace, https_proxy):
    assert len(catalog.find_all(https_workspace)) == 3
    https_proxy.forget()
    assert catalog.open("photos-toy-0@1", [https_workspace]).id == caches[0].id
    assert sum(https_proxy.counts().values()) <= 10
