"""Plan, receipts and completeness of 20,000 shards take less than 20 MB."""

import gc
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from made_caches import digest_of, made_dataset
from makers import make_extractor, make_plan

from vfs_ops.builds.planning import cache_specs, plan_build
from vfs_ops.caches.cache import open_cache
from vfs_ops.caches.commits import commit
from vfs_ops.caches.layout import begin, receipt_key
from vfs_ops.caches.receipts import Receipt
from vfs_ops.identity.spec import shard_inputs

SHARDS = 20_000
BOUND = 20_000_000  # bytes


@contextmanager
def few_bytes():
    """Check the most bytes that Python and NumPy, and beside them Arrow, hold at a time."""
    gc.collect()
    before = pa.default_memory_pool().bytes_allocated()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak + pa.default_memory_pool().bytes_allocated() - before < BOUND


@pytest.fixture
def begun(workspace):
    """Return a dataset, an extractor, and the plan of a cache that was begun."""
    dataset, extractor = made_dataset(workspace, SHARDS), make_extractor(["2"])
    [spec] = cache_specs(dataset, extractor, "float16")
    [info] = extractor.infos
    plan = make_plan(
        cache=spec.id,
        dataset=dataset.id,
        images=SHARDS,
        grid=info.grid,
        channels=info.channels,
        images_per_shard=1,
        images_per_chunk=1,
        batch_size=1,
    )
    begin(workspace, spec, plan, np.zeros(plan.image_shape, np.float32))
    return dataset, extractor, plan


def write_receipts(workspace, plan, receipt_of):
    folder = Path(workspace.path_of(receipt_key(plan.cache, 0))).parent
    folder.mkdir()
    for shard in range(SHARDS):
        (folder / f"{shard:05d}.json").write_bytes(receipt_of(shard))


def test_planning_and_finding_what_is_finished_takes_little(begun):
    dataset, extractor, plan = begun
    write_receipts(dataset.workspace, plan, lambda shard: b"")  # their names say enough
    with few_bytes():
        [planned] = plan_build(dataset, extractor)
        assert planned.finished_shards == SHARDS
        assert not planned.complete


@pytest.mark.long
def test_committing_and_reading_all_receipts_takes_little(begun):
    dataset, extractor, plan = begun
    [spec] = cache_specs(dataset, extractor, "float16")
    receipt = Receipt(
        shard=0,
        start=0,
        stop=1,
        inputs="0" * 64,
        feature_bytes=320,
        features="0" * 64,
        sq_norm="0" * 64,
        valid="0" * 64,
        chunk_checksums=(1,),
        invalid=(),
        seconds=0.1,
        host="made",
        finished="2026-01-01T00:00:00+00:00",
    )

    def receipt_of(shard):
        # digests compress as badly as real ones
        digests = (digest_of(SHARDS * (1 + number) + shard).hex() for number in range(3))
        changes = dict(zip(("features", "sq_norm", "valid"), digests, strict=True))
        inputs = shard_inputs(spec, [digest_of(shard)])
        rows = {"shard": shard, "start": shard, "stop": shard + 1}
        return replace(receipt, inputs=inputs, **rows, **changes).encode()

    write_receipts(dataset.workspace, plan, receipt_of)
    with few_bytes():
        commit(dataset.workspace, plan)
    with few_bytes():
        cache = open_cache(dataset.workspace, plan.cache, dataset)
        assert sum(receipt.feature_bytes for receipt in cache.receipts) == 320 * SHARDS
