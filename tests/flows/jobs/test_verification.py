"""Verifying as a job: where shards are read, and what is said of damaged ones."""

import pytest

from flows.jobs.verification import VerifyJob
from vfs_ops.builds import execution
from vfs_ops.caches.layout import features_key
from vfs_ops.errors import DamagedError, InputError

CACHE = "photos-efficientnet-lite0-blocks.6"


@pytest.fixture
def damaged(built):
    """Flip the bits of a byte of the only shard; returns the cache's id."""
    [identity] = built.names("caches")
    data = bytearray(built.read(features_key(identity, 0)))
    data[100] ^= 255
    built.replace(features_key(identity, 0), bytes(data))
    return identity


def test_the_workers_of_a_cluster_read_the_shards(built, damaged, scheduler, monkeypatch):
    reading = []

    def run_there(client, function, items, **rest):
        reading.append(client.scheduler.address)
        return run_on_workers(client, function, items, **rest)

    run_on_workers = execution.run_on_workers
    monkeypatch.setattr(execution, "run_on_workers", run_there)
    job = VerifyJob(workspace=built.url, cache=CACHE, sample=0, cluster=scheduler.address)
    with pytest.raises(DamagedError, match="shard 0: features"):
        job.run()
    assert reading == [scheduler.address]
    with pytest.raises(InputError, match="is no cluster"):
        VerifyJob(workspace=built.url, cache=CACHE, cluster="gpu").run()


def test_what_repairs_it_is_said(built, damaged):
    def advice(name):
        with pytest.raises(DamagedError) as caught:
            VerifyJob(workspace=built.url, cache=name, sample=0).run()
        return str(caught.value).rpartition("; ")[2]

    assert f"{built.url} build photos@1 --model efficientnet-lite0" in advice(CACHE)
    built.delete("catalog")
    assert advice(damaged) == "build it again in Python, with check='digests'"
