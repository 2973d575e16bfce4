import dataclasses
import json
import threading

import numpy as np
import pytest
import xarray as xr
import zarr
from makers import make_cache_spec, make_plan, random_maps

from vfs_ops.caches import commits, layout
from vfs_ops.caches.completeness import read_receipt
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shards import encode_features
from vfs_ops.caches.values import squared_norms
from vfs_ops.errors import (
    DamagedError,
    IncompleteError,
    NewerFormatError,
    PlanMismatchError,
    StorageFullError,
)
from vfs_ops.identity.spec import shard_inputs
from vfs_ops.store.workspace import Workspace

SPEC = make_cache_spec()


@pytest.fixture(params=["file", "memory"])
def workspace(request, tmp_path):
    if request.param == "file":
        yield Workspace.at(str(tmp_path / "workspace"))
        return
    made = Workspace.in_memory()
    yield made
    made.delete("caches")


def plan_of(spec=SPEC, **changes):
    return make_plan(cache=spec.id, dtype=spec.dtype, **changes)


def probe_of(plan):
    return np.ones(plan.image_shape, np.float32)


def receipt_of(plan, shard, fields):
    return Receipt(
        **fields,
        inputs=shard_inputs(SPEC, [bytes(32)] * len(plan.shard_rows(shard))),
        seconds=0.5,
        host="here",
        finished="2026-01-01T00:00:00+00:00",
    )


def nearly(plan, seed):
    """Return what builders on different hardware compute of the same 32 images."""
    maps = random_maps(plan, 32).astype(np.float32)
    noise = np.random.default_rng(seed).normal(size=maps.shape)
    return (maps + 0.004 * noise).astype(plan.dtype)


def write_all(workspace, plan, maps, reasons=None):
    layout.begin(workspace, SPEC, plan, probe_of(plan))
    for shard in range(plan.shard_count):
        rows = plan.shard_rows(shard)
        mine = {row: why for row, why in (reasons or {}).items() if row in rows}
        stored = layout.write_shard(workspace, plan, shard, maps[rows.start : rows.stop], mine)
        layout.write_receipt(workspace, plan.cache, receipt_of(plan, shard, stored.fields))


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_xarray_and_zarr_open_what_is_written(workspace, codec):
    plan = plan_of(codec=codec)
    maps = random_maps(plan, plan.images)
    maps[40] = 0
    write_all(workspace, plan, maps, {40: "truncated"})
    store = workspace.zarr_store(layout.cache_key(SPEC.id, "data.zarr"))
    opened = xr.open_zarr(store, chunks=None)
    np.testing.assert_array_equal(opened["features"], maps)
    np.testing.assert_array_equal(opened["sq_norm"], squared_norms(maps))
    assert np.flatnonzero(~opened["valid"].values).tolist() == [40]
    assert opened["features"].dims == ("image", "y", "x", "channel")
    np.testing.assert_array_equal(opened["y"], [4, 12, 20])
    np.testing.assert_array_equal(opened["x"], [4, 12, 20, 28])
    np.testing.assert_array_equal(opened["probe"], probe_of(plan))
    features = zarr.open_group(store, mode="r", use_consolidated=False)["features"]
    assert features.shards == (32, 3, 4, 5)
    assert features.chunks == (4, 3, 4, 5)


def test_a_commit_needs_every_receipt_and_names_their_digest(workspace):
    plan = plan_of()
    maps = random_maps(plan, plan.images)
    write_all(workspace, plan, maps)
    workspace.delete(layout.cache_key(SPEC.id, "receipts", "00002.json"))
    with pytest.raises(IncompleteError, match="3 of 4 shards"):
        commits.commit(workspace, plan)
    assert commits.read_commit(workspace, SPEC.id) is None
    write_all(workspace, plan, maps)
    done = commits.commit(workspace, plan)
    assert commits.commit(workspace, plan) == done
    assert commits.read_commit(workspace, SPEC.id) == done
    receipts = commits.read_committed_receipts(workspace, plan, done)
    assert [receipt.shard for receipt in receipts] == [0, 1, 2, 3]
    with pytest.raises(DamagedError, match="not what was committed"):
        commits.read_committed_receipts(workspace, plan, dataclasses.replace(done, objects={}))
    everything = {stat.path for stat in workspace.walk(layout.cache_key(SPEC.id))}
    left = everything - {f"{layout.cache_key(SPEC.id)}/{name}" for name in done.objects}
    shards = {key for key in left if "/c/" in key}
    assert len(shards) == 3 * 4
    assert {key.split("/")[2] for key in left - shards} == {"receipts", "complete.json"}


def test_a_plan_of_another_cache_is_never_obeyed(workspace):
    plan = plan_of()
    other = make_cache_spec(layer="body.2")
    workspace.create(
        layout.cache_key(SPEC.id, "plan.json"),
        json.dumps(plan_of(other).document()).encode(),
    )
    with pytest.raises(PlanMismatchError, match="says cache"):
        layout.begin(workspace, SPEC, plan, probe_of(plan))
    assert len(workspace.walk()) == 1


def test_foreign_documents_stop_a_build_before_it_computes(workspace):
    plan = plan_of()
    workspace.create(layout.cache_key(SPEC.id, "data.zarr", "zarr.json"), b"{}")
    with pytest.raises(DamagedError, match="not what belongs there"):
        layout.begin(workspace, SPEC, plan, probe_of(plan))


def test_builders_that_differ_on_an_image_agree_on_what_is_stored(workspace):
    plan = plan_of()
    layout.begin(workspace, SPEC, plan, probe_of(plan))
    maps = random_maps(plan, 32)
    first = layout.write_shard(workspace, plan, 0, maps, {3: "truncated"}).fields
    second = layout.write_shard(workspace, plan, 0, maps, {}).fields
    assert first["invalid"] == ((3, "truncated"),)
    assert second == {**first, "invalid": ((3, "invalid for another builder"),)}


def test_the_first_plan_stays_in_force(workspace):
    first, second = plan_of(), plan_of(images_per_shard=64)
    assert layout.begin(workspace, SPEC, first, probe_of(first)) == first
    assert layout.begin(workspace, SPEC, second, probe_of(second)) == first


def test_a_lost_race_adopts_what_is_stored(workspace):
    plan = plan_of()
    layout.begin(workspace, SPEC, plan, probe_of(plan))
    mine, theirs = nearly(plan, seed=1), nearly(plan, seed=2)
    assert (mine != theirs).any()
    stored = layout.write_shard(workspace, plan, 0, theirs, {})
    assert layout.write_shard(workspace, plan, 0, mine, {}) == stored


def test_a_kill_between_the_arrays_of_a_shard_leaves_them_in_agreement(workspace, monkeypatch):
    plan = plan_of()
    layout.begin(workspace, SPEC, plan, probe_of(plan))
    theirs = nearly(plan, seed=2)
    create = Workspace.create

    def full(self, key, data):
        if "sq_norm" in key:
            raise StorageFullError("no space left")
        return create(self, key, data)

    monkeypatch.setattr(Workspace, "create", full)
    with pytest.raises(StorageFullError):
        layout.write_shard(workspace, plan, 0, theirs, {})
    monkeypatch.undo()
    fields = layout.write_shard(workspace, plan, 0, nearly(plan, seed=1), {}).fields
    norms = np.frombuffer(workspace.read(layout.sq_norm_key(SPEC.id, 0)), "<f4")
    np.testing.assert_array_equal(norms.reshape(32, 3, 4), squared_norms(theirs))
    assert fields["features"] == layout.sha256(workspace.read(layout.features_key(SPEC.id, 0)))


def test_many_writers_of_one_shard_end_with_one_sound_shard(workspace):
    plan = plan_of()
    layout.begin(workspace, SPEC, plan, probe_of(plan))
    results, barrier = [], threading.Barrier(8)

    def write(seed):
        barrier.wait()
        results.append(layout.write_shard(workspace, plan, 0, nearly(plan, seed), {}))

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [results[0]] * 8


@pytest.mark.parametrize("damage", ["cut", "other", "norms", "valid"])
def test_damage_without_a_receipt_is_replaced(workspace, damage):
    plan = plan_of()
    layout.begin(workspace, SPEC, plan, probe_of(plan))
    maps = random_maps(plan, 32)
    first = layout.write_shard(workspace, plan, 0, maps, {})
    assert not first.repaired
    key_of = {"norms": layout.sq_norm_key, "valid": layout.valid_key}
    key = key_of.get(damage, layout.features_key)(SPEC.id, 0)
    stored = workspace.read(key)
    if damage == "other":
        changed = encode_features(random_maps(plan, 32, seed=1), plan)
    else:
        changed = stored[:-1] if damage == "cut" else b"\x02" + stored[1:]
    workspace.replace(key, changed)
    second = layout.write_shard(workspace, plan, 0, maps, {})
    assert second.repaired
    assert second.fields == first.fields
    assert workspace.read(key) == stored


def test_writes_that_are_no_whole_shard_are_refused(workspace):
    plan = plan_of()
    for maps in (random_maps(plan, 31), random_maps(plan, 32).astype(np.float64)):
        with pytest.raises(DamagedError, match="whole shard"):
            layout.write_shard(workspace, plan, 0, maps, {})
    assert workspace.walk() == []


def test_documents_that_were_changed_are_found(workspace):
    plan = plan_of()
    write_all(workspace, plan, random_maps(plan, plan.images))
    key = layout.cache_key(SPEC.id, "cache.json")
    document = json.loads(workspace.read(key))
    workspace.replace(key, json.dumps({**document, "precision": "bfloat16"}).encode())
    with pytest.raises(DamagedError, match="digest"):
        layout.read_spec(workspace, SPEC.id)
    workspace.replace(key, json.dumps({**document, "format": 2}).encode())
    with pytest.raises(NewerFormatError, match="upgrade"):
        layout.read_spec(workspace, SPEC.id)
    receipt = layout.cache_key(SPEC.id, "receipts", "00001.json")
    workspace.replace(receipt, workspace.read(receipt).replace(b'"stop":64', b'"stop":63'))
    with pytest.raises(DamagedError, match="rows 32 to 63"):
        read_receipt(workspace, plan, 1)
