"""Whoever goes on with a cache computes with the threads of whoever began it."""

import pytest
import torch
from makers import stored_bytes, write_photos
from thread_counts import thread_counter

from vfs_ops.builds.builder import build, plan_build
from vfs_ops.builds.clusters import open_cluster
from vfs_ops.builds.distribution import threads_here
from vfs_ops.builds.repair import withdraw
from vfs_ops.builds.verification import verify
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import InputError
from vfs_ops.store.workspace import Workspace

pytestmark = pytest.mark.usefixtures("small_shards")


@pytest.fixture
def with_threads():
    """Return a function that sets how many threads torch uses."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def one_thread(dataset, with_threads, tmp_path):
    """Return what one thread stores; two threads are set afterwards."""
    with_threads(1)
    [cache] = build(dataset, thread_counter(), workspace=Workspace.at(f"{tmp_path}/one"))
    with_threads(2)
    return stored_bytes(cache)


class Interruption(Exception):
    pass


def interrupt(report):
    raise Interruption


def test_other_threads_would_give_other_bits(dataset, one_thread, tmp_path):
    [cache] = build(dataset, thread_counter(), workspace=Workspace.at(f"{tmp_path}/two"))
    assert cache.plan.threads == 2
    assert stored_bytes(cache) != one_thread
    assert "2 threads" in cache.receipts[0].device


def test_a_build_that_is_resumed_keeps_its_threads(dataset, with_threads, one_thread):
    with_threads(1)
    with pytest.raises(Interruption):
        build(dataset, thread_counter(), on_shard=interrupt)
    with_threads(2)
    shards = []
    [cache] = build(dataset, thread_counter(), on_shard=shards.append)
    assert 0 < len(shards) < 4
    assert torch.get_num_threads() == 2
    assert stored_bytes(cache) == one_thread
    assert {"1 threads" in receipt.device for receipt in cache.receipts} == {True}
    # a sample is compared bit by bit, with as many threads
    assert verify(cache, extractor=thread_counter()) == []


def test_a_shard_that_is_computed_again_is_the_same(dataset, with_threads, one_thread):
    with_threads(1)
    [cache] = build(dataset, thread_counter())
    with_threads(2)
    withdraw(dataset.workspace, cache.plan, [1])
    shards = []
    [again] = build(dataset, thread_counter(), on_shard=shards.append)
    assert [report.shard for report in shards] == [1]
    assert stored_bytes(again) == one_thread


def test_a_dataset_that_grew_keeps_the_threads_of_its_shards(tmp_path, workspace, with_threads):
    photos = tmp_path / "images"
    write_photos(photos, 40)
    with_threads(1)
    first = ingest(str(photos), workspace)
    build(first, thread_counter())
    with_threads(2)
    write_photos(photos, 4, seed=1, first=40)
    grown = ingest(str(photos), workspace, previous=first)
    [planned] = plan_build(grown, thread_counter())
    assert planned.plan.threads == 1
    assert list(planned.copies) == [0, 1]


@pytest.mark.parametrize("given", ["", "many", "0", "-2", "1.5", "9" * 30])
def test_a_number_of_threads_that_is_none_is_named(monkeypatch, given):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    with pytest.raises(InputError, match="OMP_NUM_THREADS of a worker is"):
        threads_here()


def test_the_first_of_nested_numbers_of_threads_counts(monkeypatch, with_threads):
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert threads_here() == 2


@pytest.mark.long
def test_a_cache_begun_on_a_cluster_is_finished_here_with_its_workers_threads(dataset, one_thread):
    with open_cluster("local", workers=1, threads=1) as client, pytest.raises(Interruption):
        build(dataset, thread_counter(), client=client, on_shard=interrupt)
    [cache] = build(dataset, thread_counter())
    assert cache.plan.threads == 1
    assert stored_bytes(cache) == one_thread


@pytest.mark.long
def test_a_cache_begun_here_is_finished_on_a_cluster_with_our_threads(
    dataset, with_threads, one_thread
):
    with_threads(1)
    with pytest.raises(Interruption):
        build(dataset, thread_counter(), on_shard=interrupt)
    with open_cluster("local", workers=1, threads=2) as client:
        [cache] = build(dataset, thread_counter(), client=client)
    assert stored_bytes(cache) == one_thread
