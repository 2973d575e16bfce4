import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from makers import make_extractor

from vfs_ops.builds import capacity
from vfs_ops.builds.builder import build, plan_build
from vfs_ops.builds.capacity import PROCESS_BYTES, worker_memory
from vfs_ops.builds.planning import check_capacity
from vfs_ops.errors import StorageFullError, TooLargeError

pytestmark = pytest.mark.usefixtures("small_shards")


def test_several_models_are_planned_and_built_in_one_call(dataset):
    models = [make_extractor(), make_extractor(["2"], seed=1)]
    planned = plan_build(dataset, models)
    assert [cache.spec.extractor.layer for cache in planned] == ["0", "2", "2"]
    seen = []
    caches = build(dataset, models, progress=seen.append)
    assert [cache.id for cache in caches] == [cache.spec.id for cache in planned]
    told = [one for one in seen if one.stage == "build"]
    assert (told[-1].done, told[-1].total) == (120, 120)
    assert (seen[-1].stage, seen[-1].done, seen[-1].total) == ("verify", 4, 4)
    assert all(cache.complete for cache in plan_build(dataset, models))
    assert [cache.worker_memory for cache in plan_build(dataset, models)] == [0, 0, 0]


def test_projected_memory_is_the_stated_sum(dataset, extractor):
    [first, second] = plan_build(dataset, extractor)
    assert first.worker_memory == second.worker_memory
    weights = sum(p.numel() * 4 for p in extractor.model.module.parameters())
    largest = 8 * 8 * 6 * 4  # float32 of layer 0, for one image
    assert extractor.largest_output() == largest
    images = 8 * (5 * 32 * 32 * 3 + 5 * 4 * (8 * 8 * 6 + 4 * 4 * 10))
    shards = 16 * 2 * (2 * 8 * 8 * 6 + 4 * 4 * 10)
    expected = PROCESS_BYTES + weights + 9 * 8 * largest + 2 * (images + shards)
    assert worker_memory(extractor, [first.plan, second.plan]) == expected == first.worker_memory


def test_what_does_not_fit_is_refused_with_both_numbers(dataset, extractor, monkeypatch):
    planned = plan_build(dataset, extractor)
    check_capacity(planned, dataset.workspace)
    with pytest.raises(StorageFullError, match=r"up to 85\.9 kB, and the quota is 1\.0 kB"):
        build(dataset, extractor, quota=1000)
    monkeypatch.setattr(capacity, "_machine_memory", lambda: 300 << 20)
    with pytest.raises(TooLargeError, match=r"about 6\d\d\.\d MB .*314\.6 MB are there"):
        build(dataset, extractor)
    monkeypatch.setattr(capacity, "_machine_memory", lambda: 2 << 30)
    check_capacity(planned, dataset.workspace, processes=3)
    with pytest.raises(TooLargeError, match=r"and 536\.9 MB are there"):
        check_capacity(planned, dataset.workspace, processes=4)
    monkeypatch.undo()
    monkeypatch.setattr(
        capacity.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1 << 10})
    )
    with pytest.raises(StorageFullError, match=r"1\.0 kB are free at file://"):
        check_capacity(planned, dataset.workspace)
    assert dataset.workspace.walk("caches") == []


@pytest.mark.long
def test_projected_memory_is_what_a_build_takes_within_a_factor(tmp_path):
    """A model with large maps and shards, in a process of its own."""
    script = f"""
        import resource, sys
        sys.path.insert(0, {str(Path(__file__).parents[2] / "support")!r})
        from makers import make_extractor, write_photos
        from pathlib import Path
        from vfs_ops.builds.builder import build, plan_build
        from vfs_ops.datasets.ingestion import ingest
        from vfs_ops.store.workspace import Workspace

        write_photos(Path({str(tmp_path)!r}) / "images", 192)
        workspace = Workspace.at({str(tmp_path / "workspace")!r})
        dataset = ingest({str(tmp_path / "images")!r}, workspace)
        extractor = make_extractor(size=512)
        projected = plan_build(dataset, extractor)[0].worker_memory
        build(dataset, extractor)
        print(projected, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True
    )
    projected, measured = map(int, done.stdout.split())
    assert projected / 2 < measured < projected * 1.5
