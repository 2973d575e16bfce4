"""Builds as flows, on Dask processes: what they leave behind, and what interrupts them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from makers import cut_small
from prefect_processes import ROOT
from saboteurs import Saboteur

import catalog
from flows.jobs.building import BuildJob, ExtractorChoice
from flows.running import run_tracked
from vfs_ops.builds import clusters
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import CheckpointError, ClusterError, ClusterLostError
from vfs_ops.store.workspace import Workspace

LAYER = "features.12"


def make_job(workspace, **changes):
    choice = {"model": "torchvision:squeezenet1_1", "layers": (LAYER,), "weights": "random:0"}
    checkpoint = changes.pop("checkpoint", None)
    if checkpoint:
        choice = {**choice, "weights": None, "checkpoint": checkpoint}
    choices = (ExtractorChoice(**choice),)
    given = {"workspace": workspace.url, "dataset": "photos", "extractors": choices}
    return BuildJob(**{**given, **changes})


@pytest.fixture
def registered(dataset, workspace):
    """Register the photos; returns their workspace."""
    catalog.register_dataset(workspace, "photos", dataset)
    return workspace


def test_a_build_leaves_artifacts(runs, scheduler, registered, small_shards):
    built = run_tracked(make_job(registered, cluster=scheduler.address))
    assert built.computed_shards == 4
    run = runs.last()
    runs.check_stages(run, {"plan": 1, "build": 1})
    bars = [one["description"] for one in runs.artifacts(run, "progress")]
    assert {text.partition(r"\:")[0] for text in bars} == {"build", "verify"}  # Markdown
    tables = {one["key"]: one["data"] for one in runs.artifacts(run, "table")}
    assert set(tables) == {"plan-photos", "shards-photos"}
    [entry] = built.entries
    texts = {
        one["key"].partition("-photos")[0]: one["data"] for one in runs.artifacts(run, "markdown")
    }
    assert set(texts) == {"open", "first-search"}
    assert f'cache = catalog.open("{entry.name}@1", workspace)\n```' in texts["open"]
    assert "data:image/png;base64,iVBOR" in texts["first-search"]
    assert entry.built["flow_run"] == run["id"]


@pytest.mark.long
def test_a_killed_worker_costs_its_shards_only(
    runs, scheduler, registered, dataset, photos, small_shards, tmp_path, monkeypatch
):
    (tmp_path / "marks").mkdir()
    uri = dataset.rows([37], ["uri"])["uri"][0].as_py()
    reader = Saboteur(str(photos), uri, str(tmp_path / "marks"))  # kills who reads that image
    monkeypatch.setattr(BuildJob, "place", lambda _: reader)
    built = run_tracked(make_job(registered, cluster=scheduler.address))
    assert len(list((tmp_path / "marks").iterdir())) == 1
    assert built.computed_shards == 4
    run = runs.last()
    assert run["state_name"] == "Completed"
    runs.check_stages(run, {"plan": 1, "build": 1})
    [table] = [one for one in runs.artifacts(run, "table") if one["key"] == "shards-photos"]
    assert [row["shard"] for row in json.loads(table["data"])] == [0, 1, 2, 3]


def test_a_lost_cluster_is_tried_again_and_a_bad_checkpoint_is_not(
    runs, at_once, registered, small_shards, monkeypatch, tmp_path
):
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 0.2)
    with pytest.raises(ClusterLostError):
        run_tracked(make_job(registered, cluster="tcp://127.0.0.1:9"))
    runs.check_stages(runs.last(), {"plan": 1, "build": 4})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ClusterError, match="no GPU"):
        run_tracked(make_job(registered, cluster="cuda"))
    runs.check_stages(runs.last(), {})
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError):
        run_tracked(make_job(registered, checkpoint=str(tmp_path / "bad.pt")))
    runs.check_stages(runs.last(), {"plan": 1})


BUILD = """
import sys
import pytest
from makers import cut_small
from saboteurs import FlowKiller
from flows.jobs.building import BuildJob
from flows.running import run
from test_builds import make_job
from vfs_ops.store.workspace import Workspace

if __name__ == "__main__":
    cut_small(pytest.MonkeyPatch())
    killer = FlowKiller(*sys.argv[2:])
    BuildJob.place = lambda _: killer
    run(make_job(Workspace.at(sys.argv[1]), workers=1))
"""


@pytest.mark.long
def test_a_killed_flow_goes_on_where_it_stopped(
    runs, registered, dataset, photos, tmp_path, monkeypatch
):
    places = [ROOT, ROOT / "tests" / "support", Path(__file__).parent]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "PREFECT_API_URL": str(runs.client.api_url),
    }
    late = dataset.rows([58], ["uri"])["uri"][0].as_py()  # of the last shard, not of the sample
    folder = Path(registered.url.removeprefix("file://"))
    killed = subprocess.run(
        [sys.executable, "-c", BUILD, registered.url, str(photos), late, str(folder / "caches")],
        env=environment,
        start_new_session=True,
    )
    assert killed.returncode == -signal.SIGKILL
    finished = len(list(folder.glob("caches/*/receipts/*.json")))
    assert 0 < finished < 4
    assert not list(folder.glob("caches/*/complete.json"))
    cut_small(monkeypatch)
    built = make_job(registered, workers=1).run()
    assert built.computed_shards == 4 - finished
    other = Workspace.at(str(tmp_path / "undisturbed"))
    catalog.register_dataset(other, "photos", ingest(str(photos), other))
    [undisturbed] = make_job(other, workers=1).run().entries
    [entry] = built.entries
    assert entry.id == undisturbed.id
    caches = [catalog.open_cache(each, entry.id) for each in (registered, other)]
    digests = [[receipt.features for receipt in cache.receipts] for cache in caches]
    assert digests[0] == digests[1]
