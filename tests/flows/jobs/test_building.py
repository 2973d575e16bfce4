"""Builds as plain jobs: what is new is built, and nothing else is written."""

import os
import shutil
import sys
from datetime import timedelta

import pytest
import torch
from distributed import Client
from makers import write_photos

import catalog
from flows.jobs import build_stage
from flows.jobs.build_tables import shard_table
from flows.jobs.building import BuildJob, ExtractorChoice
from flows.jobs.ingestion import IngestJob
from flows.watching import Watcher
from vfs_ops.builds import builder, clusters, planning
from vfs_ops.builds.reports import ShardReport
from vfs_ops.caches.layout import features_key
from vfs_ops.errors import (
    ClusterError,
    ClusterLostError,
    InputError,
    InvalidNameError,
    NotFoundError,
    StorageFullError,
    TooLargeError,
)
from vfs_ops.sharing.unused import find_unused

MODEL = {"model": "torchvision:squeezenet1_1", "weights": "random:0"}
LAYER = "features.12"
OTHER = "torchvision:resnet18"


class Recording(Watcher):
    """Remembers what it is told, and draws every picture."""

    def __init__(self):
        self.stages, self.tables, self.pictures, self.notes = [], [], [], []

    def stage(self, name, work):
        self.stages.append(name)
        return work()

    def table(self, table):
        self.tables.append(table)

    def picture(self, draw):
        self.pictures.append(draw())

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def folder(tmp_path):
    """Return a folder of 24 photos that a test may change."""
    write_photos(tmp_path / "photos", 24)
    return tmp_path / "photos"


@pytest.fixture
def job(folder, workspace, small_shards, scheduler):
    """Make the job that a night would run, on a cluster of processes: shards of 16 images."""

    def make(*layers, **changes):
        given = {
            "workspace": workspace.url,
            "dataset": "photos",
            "extractors": (ExtractorChoice(**MODEL, layers=layers or (LAYER,)),),
            "source": str(folder),
            "cluster": scheduler.address,
        }
        return BuildJob(**{**given, **changes})

    return make


def test_a_night_without_news_writes_nothing(job, folder, workspace, tmp_path):
    (tmp_path / "labels.csv").write_text("file,label\neven/0000.png,cat\n")
    as_ingested = {"source": str(folder), "labels": str(tmp_path / "labels.csv")}
    IngestJob(workspace=workspace.url, name="photos", **as_ingested).run()
    built = job(**as_ingested).run(first := Recording())
    assert catalog.find(workspace, "photos", "dataset").version == 1
    assert built.computed_shards == 2
    assert first.stages == ["ingest", "register", "plan", "build"]
    before = workspace.walk()
    again = job(**as_ingested).run(second := Recording())
    assert workspace.walk() == before
    assert again.entries == built.entries
    assert again.computed_shards == 0
    assert "nothing to do" in second.tables[0].title
    assert len(second.tables) == 1
    assert second.pictures == []


def test_a_new_image_builds_just_what_is_new(job, folder, workspace, tmp_path):
    job().run()
    write_photos(tmp_path / "more", 1, seed=5, first=900)
    shutil.copytree(tmp_path / "more", folder, dirs_exist_ok=True)
    built = job().run(watcher := Recording())
    assert built.computed_shards == 1
    shards = watcher.tables[-1]
    assert [(row["shard"], row["action"]) for row in shards.rows] == [
        (0, "copied"),
        (1, "computed"),
    ]
    [entry] = built.entries
    assert (entry.name, entry.version, entry.facts["images"]) == (entry.name, 2, 25)
    before = workspace.walk()
    assert job().run().computed_shards == 0
    assert workspace.walk() == before


def test_a_new_checkpoint_builds_its_own_cache(job, workspace):
    [old] = job().run().entries
    other = (ExtractorChoice(model=MODEL["model"], weights="random:1", layers=(LAYER,)),)
    built = job(extractors=other).run()
    [new] = built.entries
    assert built.computed_shards == 2
    assert new.id != old.id
    assert new.name.startswith(f"{old.name}-")
    assert job().run().computed_shards == 0


def test_a_build_leaves_what_a_person_can_use(job):
    job("features.3", LAYER).run(watcher := Recording())
    plan, shards = watcher.tables
    assert [row["cache"].rpartition("-")[2] for row in plan.rows] == ["features.3", LAYER]
    assert {row["shards"] for row in plan.rows} == {2}
    assert all(row["memory"].endswith("B") for row in plan.rows)
    assert len(shards.rows) == 4
    assert all(row["seconds"] > 0 and row["machine"] for row in shards.rows)
    assert [picture.png[:4] for picture in watcher.pictures] == [b"\x89PNG", b"\x89PNG"]


def test_workers_are_processes_that_know_no_prefect(job, scheduler):
    job().run(watcher := Recording())
    loaded = scheduler.run(lambda: "torch" in sys.modules)
    assert any(loaded.values())
    assert not any(scheduler.run(lambda: "prefect" in sys.modules).values())
    assert len({*scheduler.run(os.getpid).values(), os.getpid()}) == 3
    assert {row["worker"] for row in watcher.tables[-1].rows} <= {"0", "1"}


def test_a_finished_cache_that_lacks_a_shard_is_mended_by_the_cluster(job, workspace):
    [entry] = job().run().entries
    workspace.delete(features_key(entry.id, 1))
    again = job().run(watcher := Recording())
    assert again.computed_shards == 1
    assert "shard 1 is computed again" in watcher.notes[0]
    [row] = watcher.tables[-1].rows
    assert row["shard"] == 1
    assert row["worker"] in ("0", "1")
    assert catalog.open_cache(workspace, entry.id).missing_shards == ()


def test_each_model_is_registered_and_kept_as_soon_as_it_is_built(job, workspace, monkeypatch):
    choices = (
        ExtractorChoice(**MODEL, layers=(LAYER,)),
        ExtractorChoice(model=OTHER, weights="random:0", layers=("layer4",)),
    )
    build_pass = builder._build_pass

    def second_fails(site, extractor, *rest):
        if extractor.model.reference == OTHER:
            unused = find_unused(workspace, (), min_age=timedelta(0)).unused
            assert "cache" not in {found.kind for found in unused}
            raise StorageFullError("no space left")
        build_pass(site, extractor, *rest)

    for _ in range(2):  # the second time the first cache is there from the start
        with monkeypatch.context() as patch:
            patch.setattr(builder, "_build_pass", second_fails)
            with pytest.raises(StorageFullError):
                job(extractors=choices).run(watcher := Recording())
        [entry] = catalog.list_entries(workspace, "cache")
        assert entry.facts["model"] == MODEL["model"]
    assert watcher.pictures == []
    built = job(extractors=choices).run(watcher)
    assert [entry.facts["model"] for entry in built.entries] == [MODEL["model"], OTHER]
    assert built.computed_shards == 2
    assert len(watcher.pictures) == 1


def test_what_cannot_be_built_is_refused_before_anything_is_written(job, workspace):
    with pytest.raises(NotFoundError, match="no dataset 'photos'"):
        job(source=None).run()
    with pytest.raises(InputError, match="of a source"):
        job(source=None, labels="folder").run()
    with pytest.raises(InvalidNameError):
        job("features.3", LAYER, name="both").run()
    assert workspace.names("caches") == []


def test_a_cluster_that_is_not_there_is_told(job, workspace, monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 0.2)
    with pytest.raises(ClusterLostError):
        job(cluster="tcp://127.0.0.1:9").run()
    before = workspace.walk()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for wrong, error in ({"cluster": "node:8786"}, InputError), ({"cluster": "cuda"}, ClusterError):
        with pytest.raises(error):
            job(**wrong, name="no/name").run(watcher := Recording())
        assert watcher.stages == []
    assert workspace.walk() == before


def test_a_dry_run_counts_what_the_cluster_has(job, workspace, monkeypatch):
    asked = []
    monkeypatch.setattr(planning, "check_memory", lambda *given: asked.append(given[1:]))
    here = job(cluster="local", workers=3)
    IngestJob(workspace=workspace.url, name="photos", source=here.source).run()
    prepared = here.prepare()
    here.check_capacity(prepared)
    assert asked == [(None, 3)]
    job().check_capacity(prepared)
    [(client, _)] = asked[1:]
    assert client.status == "closed"  # it asked the scheduler
    monkeypatch.undo()
    limits = {"w": {"memory_limit": 1 << 20}}
    monkeypatch.setattr(Client, "scheduler_info", lambda *_, **__: {"workers": limits})
    with pytest.raises(TooLargeError, match=r"1\.0 MB are there"):
        job().check_capacity(prepared)


def test_of_many_shards_the_slowest_are_kept(monkeypatch):
    monkeypatch.setattr(build_stage, "MOST_SHARDS", 3)
    slowest = build_stage.Slowest()
    given = {"cache": "a", "layer": "0", "images": 1, "bytes": 9, "host": "h", "worker": "w"}
    for shard, seconds in enumerate((2.0, 5.0, 1.0, 5.0, 3.0, 0.5)):
        slowest.add(ShardReport(**given, shard=shard, seconds=seconds, action="computed"))
    assert [report.shard for report in slowest.reports()] == [1, 3, 4]
    table = shard_table("photos", {"a": "cache"}, slowest.reports(), slowest.count)
    assert table.title == "6 shards of dataset photos; the 3 slowest are shown"
    assert [row["shard"] for row in table.rows] == [1, 3, 4]


def test_a_single_shard_on_this_machine_is_built_in_this_process(folder, workspace):
    choices = (ExtractorChoice(**MODEL, layers=(LAYER,)),)
    given = {"workspace": workspace.url, "dataset": "photos", "source": str(folder)}
    BuildJob(**given, extractors=choices).run(watcher := Recording())
    assert [row["worker"] for row in watcher.tables[-1].rows] == ["this process"]


def test_a_run_that_ended_before_it_registered_is_made_good_by_the_next(
    folder, workspace, monkeypatch
):
    choices = (ExtractorChoice(**MODEL, layers=(LAYER,)),)
    job = BuildJob(
        workspace=workspace.url, dataset="photos", source=str(folder), extractors=choices
    )

    def ended(stage, cache):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build_stage.BuildStage, "_register", ended)
        with pytest.raises(KeyboardInterrupt):
            job.run()
    assert catalog.list_entries(workspace, "cache") == []
    assert "cache" not in {found.kind for found in find_unused(workspace, ()).unused}
    built = job.run()
    assert built.computed_shards == 0
    assert catalog.list_entries(workspace, "cache") == list(built.entries)


@pytest.mark.long
def test_a_night_on_object_storage_and_a_cluster_of_its_own(job, s3_workspace):
    given = {"workspace": s3_workspace.url, "cluster": "local", "workers": 1, "threads": 1}
    built = job(**given).run(first := Recording())
    assert built.computed_shards == 2
    assert len(first.pictures) == 1
    [entry] = built.entries
    assert catalog.open(entry.reference, s3_workspace).count == 24
    before = s3_workspace.walk()
    assert job(**given).run().computed_shards == 0
    assert s3_workspace.walk() == before
