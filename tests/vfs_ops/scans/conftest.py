"""Caches and queries of the tests of searches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster
from makers import make_extractor
from searches import BOX

from vfs_ops.builds.builder import build
from vfs_ops.caches.cache import Cache
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.datasets.tables import TableSource
from vfs_ops.scans.queries import Query, query_from_row
from vfs_ops.store.workspace import Workspace


@pytest.fixture(scope="module")
def processes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Return a client of two worker processes, which find the S3 server, if any, as we do."""
    names = [name for item in request.session.items for name in item.name.split("[")[-1:]]
    s3 = any(name.startswith("s3-") for name in names)
    found = request.getfixturevalue("s3_server").environment() if s3 else {}
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            env=found,
            local_directory=str(tmp_path_factory.mktemp("dask")),
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def query(cache: Cache) -> Query:
    return query_from_row(cache, 7, boxes=BOX)


@pytest.fixture
def described(tmp_path, photos, workspace: Workspace, small_shards: None) -> Cache:
    """A cache of 30 images with a label each, but for every fifth, and metadata."""
    uris = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))[:30]
    lines = ["file,label,size,rank"]
    for number, uri in enumerate(uris):
        label = "" if number % 5 == 4 else f"<b>${number % 3}"
        lines.append(f"{photos / uri},{label},{number},{number * 2}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    dataset = ingest(TableSource(str(table), "file", "label"), workspace)
    [cache] = build(dataset, make_extractor(("0",)))
    return cache
