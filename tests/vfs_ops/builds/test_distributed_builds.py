"""Builds on a real cluster of processes: the same bits, whatever happens to it."""

import threading
from pathlib import Path

import pytest
import torch
from makers import make_extractor, stored_bytes
from saboteurs import Saboteur

from vfs_ops.builds import retries
from vfs_ops.builds.builder import build, plan_build
from vfs_ops.builds.clusters import open_cluster
from vfs_ops.builds.distribution import run_on_workers
from vfs_ops.builds.verification import verify
from vfs_ops.caches.cache import open_cache
from vfs_ops.errors import (
    AccessError,
    ClusterError,
    ClusterLostError,
    ExtractorMismatchError,
    ImageChangedError,
    IncompleteError,
    InputError,
    TooLargeError,
)
from vfs_ops.store.workspace import Workspace

pytestmark = pytest.mark.usefixtures("small_shards")


@pytest.fixture(scope="module")
def _opened():
    with open_cluster("local", workers=2, threads=1) as opened:
        yield opened


@pytest.fixture
def client(_opened):
    """Return the client of two workers, which are there again if a test before killed one."""
    _opened.wait_for_workers(2, timeout=300)
    return _opened


@pytest.fixture
def marks(tmp_path):
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def uri_of(dataset, row):
    return dataset.rows([row], ["uri"])["uri"][0].as_py()


def test_a_cluster_stores_the_same_bits_and_tells_of_every_shard(dataset, client, undisturbed):
    shards, seen = [], []
    caches = build(
        dataset, make_extractor(), client=client, progress=seen.append, on_shard=shards.append
    )
    assert [stored_bytes(cache) for cache in caches] == undisturbed
    assert [verify(cache, client=client) for cache in caches] == [[], []]
    told = sorted((report.cache, report.shard) for report in shards)
    assert told == sorted((cache.id, shard) for cache in caches for shard in range(4))
    assert {report.worker for report in shards} <= {"0", "1"}
    assert all(report.action == "computed" and report.seconds >= 0 for report in shards)
    told = [one for one in seen if one.stage == "build"]
    assert [(told[0].done, told[0].total), (told[-1].done, told[-1].total)] == [(0, 60), (60, 60)]
    del shards[:]
    assert build(dataset, make_extractor(), client=client, on_shard=shards.append) == caches
    assert shards == []


def test_what_a_worker_needs_is_taken_away_again(dataset, client):
    build(dataset, make_extractor(), client=client)
    from vfs_ops.builds import workers

    assert set(client.run(lambda: len(workers._RUNNING)).values()) == {0}


def test_a_killed_worker_costs_its_shards_only(dataset, photos, client, marks, undisturbed):
    reader = Saboteur(str(photos), uri_of(dataset, 37), str(marks))
    shards, notices = [], []
    caches = build(
        dataset,
        make_extractor(),
        client=client,
        images=reader,
        on_shard=shards.append,
        on_notice=notices.append,
    )
    assert len(list(marks.iterdir())) == 1
    assert [stored_bytes(cache) for cache in caches] == undisturbed
    assert len({(report.cache, report.shard) for report in shards}) == len(shards)


def test_workers_that_are_away_for_a_moment_are_waited_for(client, monkeypatch):
    scheduler_info, looks = client.scheduler_info, []

    def nobody_at_first(**options):
        looks.append(options)
        return {"workers": {}} if len(looks) < 3 else scheduler_info(**options)

    monkeypatch.setattr(client, "scheduler_info", nobody_at_first)
    told = []
    run_on_workers(
        client, abs, range(-5, 0), name="t", on_result=told.append, on_notice=told.append
    )
    assert sorted(told) == [1, 2, 3, 4, 5]
    assert len(looks) == 3


@pytest.mark.long
def test_workers_that_die_again_and_again_are_an_error_and_the_rest_stays(
    dataset, photos, client, marks, undisturbed
):
    reader = Saboteur(str(photos), uri_of(dataset, 50), str(marks), times=1000)
    with pytest.raises(ClusterError, match=r"workers died.*4 times") as caught:
        build(dataset, make_extractor(), client=client, images=reader)
    assert not isinstance(caught.value, ClusterLostError)  # it would not pass
    finished = [cache.finished_shards for cache in plan_build(dataset, make_extractor())]
    shards = []
    caches = build(dataset, make_extractor(), client=client, on_shard=shards.append)
    assert len(shards) == 8 - sum(finished)
    assert [stored_bytes(cache) for cache in caches] == undisturbed


def test_images_that_do_not_answer_for_a_while_are_asked_again(
    dataset, photos, client, marks, undisturbed
):
    client.run(_no_pauses)
    reader = Saboteur(str(photos), uri_of(dataset, 20), str(marks), "unavailable", times=3)
    notices = []
    caches = build(
        dataset, make_extractor(), client=client, images=reader, on_notice=notices.append
    )
    assert len([notice for notice in notices if "tried again" in notice]) == 3
    assert [stored_bytes(cache) for cache in caches] == undisturbed


def _no_pauses():
    retries.PAUSES = (0.0,) * 4


def test_what_cannot_pass_stops_the_build_at_once(dataset, photos, client, marks):
    reader = Saboteur(str(photos), uri_of(dataset, 20), str(marks), "denied", times=1000)
    with pytest.raises(AccessError, match="credentials"):
        build(dataset, make_extractor(), client=client, images=reader)
    assert len(list(marks.iterdir())) <= 2  # nobody tried it again
    with pytest.raises(IncompleteError):
        open_cache(dataset.workspace, plan_build(dataset, make_extractor())[0].spec.id)


def test_a_changed_image_stops_the_build(dataset, photos, client, tmp_path):
    import shutil

    shutil.copytree(photos, tmp_path / "changed")
    Path(tmp_path / "changed" / uri_of(dataset, 33)).write_bytes(b"other")
    with pytest.raises(ImageChangedError, match="ingest again"):
        build(dataset, make_extractor(), client=client, images=str(tmp_path / "changed"))


def test_a_worker_that_loads_other_weights_is_found(dataset, client, monkeypatch):
    from vfs_ops.caches import recipes

    made = recipes.recipe_of

    def other(extractor):
        recipe = made(extractor)
        torch.nn.init.zeros_(recipe.module[0].bias)
        return recipe

    monkeypatch.setattr(recipes, "recipe_of", other)
    with pytest.raises(ExtractorMismatchError, match="where the build was started"):
        build(dataset, make_extractor(), client=client)


def test_what_cannot_be_sent_to_workers_is_refused(dataset, photos, client):
    class Locked(Saboteur):
        def __getstate__(self):
            return threading.Lock()

    reader = Locked(str(photos), "none", "/nowhere")
    with pytest.raises(InputError, match="cannot be sent to workers"):
        build(dataset, make_extractor(), client=client, images=reader)


def test_a_workspace_in_memory_is_refused(dataset, client):
    with pytest.raises(InputError, match="memory"):
        build(dataset, make_extractor(), client=client, workspace=Workspace.in_memory())


def test_workers_with_too_little_memory_are_refused_with_both_numbers(dataset, client, monkeypatch):
    from vfs_ops.builds import capacity

    monkeypatch.setattr(capacity, "_worker_limits", lambda client: [100 << 20])
    with pytest.raises(TooLargeError, match=r"\d\d\d\.\d MB of memory a process, and 104.9 MB"):
        build(dataset, make_extractor(), client=client)
    assert dataset.workspace.walk("caches") == []
