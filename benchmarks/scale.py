"""Very many tiny shards, and a dataset of 50,000 known images: ``python -m benchmarks.scale``.

Builds a cache of one image a shard over a scheduler and a worker in processes of their own, set as
those of a local cluster are, with a model that only pools pixels, and prints the memory of
scheduler, client and worker at every eighth of the shards. Then
prints seconds and memory, each in a fresh process, of the plan and the completeness check of the
cache while it is unfinished, of opening it, and of an up-to-date build of it and of a cache of
50,000 images in shards of usual size, when the images are gone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import psutil
import pyarrow as pa
import torch
from PIL import Image

from benchmarks.pairs import report
from vfs_ops import FeatureExtractor, Preprocessing, Resize, Workspace, build, ingest, load_model
from vfs_ops.builds.builder import plan_build
from vfs_ops.builds.clusters import BOUNDS, open_cluster
from vfs_ops.builds.repair import withdraw_commit
from vfs_ops.caches import plans as plans_module
from vfs_ops.caches.cache import open_cache
from vfs_ops.caches.completeness import finished_shards
from vfs_ops.caches.layout import cache_key
from vfs_ops.datasets.dataset import open_dataset

KNOWN_IMAGES = 50_000


class Pooling(torch.nn.Module):
    """Returns its input in four cells."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.AvgPool2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the means of squares of 4×4 pixels."""
        return self.body(x)


def extractor() -> FeatureExtractor:
    preprocessing = Preprocessing(resize=Resize("exact", (8, 8)), crop=None)
    model = load_model(Pooling(), name="pooling", preprocessing=preprocessing)
    return FeatureExtractor(model, ["body"], device="cpu")


def prepare(folder: Path, images: int) -> str:
    """Ingest a table that names one tiny picture again and again; returns the dataset's id."""
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "tiny.png")
    table = folder / f"{images}.csv"
    table.write_text("\n".join(["path", *["tiny.png"] * images]) + "\n")
    return ingest(str(table), Workspace.at(f"{folder}/workspace")).id


@contextlib.contextmanager
def processes(folder: Path) -> Iterator[tuple[str, dict[str, psutil.Process]]]:
    """Start a scheduler and a worker; yields the address and the processes."""
    place = folder / "scheduler.json"
    python = [sys.executable, "-m"]
    common = ["--scheduler-file", str(place), "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with dask.config.set(BOUNDS):
        settings = dask.config.serialize(dask.config.global_config)
    quiet["env"] = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path]),
        "DASK_INTERNAL_INHERIT_CONFIG": settings,
    }
    scheduler = subprocess.Popen(
        [*python, "distributed.cli.dask_scheduler", *common, "--dashboard-address", ":0"], **quiet
    )
    worker = None
    try:
        while not place.exists():
            time.sleep(0.05)
        worker = subprocess.Popen(
            [*python, "distributed.cli.dask_worker", *common, "--no-nanny", "--nthreads", "2"],
            cwd=folder,
            **quiet,
        )
        found = {"scheduler": psutil.Process(scheduler.pid), "worker": psutil.Process(worker.pid)}
        yield json.loads(place.read_text())["address"], {**found, "client": psutil.Process()}
    finally:
        for process in (worker, scheduler):
            if process is not None:
                process.kill()
                process.wait()


def build_over_cluster(folder: Path, dataset_id: str, shards: int) -> list[dict]:
    """Build one image a shard; returns the memory of all processes along the way."""
    dataset = open_dataset(Workspace.at(f"{folder}/workspace"), dataset_id)
    rows: list[dict] = []
    marks = [max(1, shards * eighths // 8) for eighths in range(1, 9)]
    done, start = 0, time.perf_counter()
    with processes(folder) as (address, found), open_cluster(address) as client:
        client.wait_for_workers(1, timeout=60)

        def count(_report: object) -> None:
            nonlocal done
            done += 1
            if done in marks:
                memory = {f"{k}_MiB": p.memory_info().rss / 2**20 for k, p in found.items()}
                rows.append({"shards": done, "seconds": time.perf_counter() - start, **memory})

        build(dataset, extractor(), client=client, on_shard=count)
    rows.append({"shards": f"{shards}, verified and committed"})
    rows[-1]["seconds"] = time.perf_counter() - start
    return rows


def look(what: str, folder: str, dataset_id: str, cache_id: str, traced: bool) -> dict:
    """Do one thing in this process; returns seconds, or the most memory that it held."""
    workspace = Workspace.at(f"{folder}/workspace")
    dataset, model = open_dataset(workspace, dataset_id), extractor()
    model.features(np.zeros((1, 8, 8, 3), np.uint8))
    if what == "plan and completeness, unfinished":
        dataset.digests()
    if traced:
        tracemalloc.start()
    start = time.perf_counter()
    if what == "plan and completeness, unfinished":
        [planned] = plan_build(dataset, model)
        count = len(finished_shards(workspace, planned.plan))
    elif what == "open, and look at every receipt":
        cache = open_cache(workspace, cache_id, dataset)
        count = sum(1 for receipt in cache.receipts if receipt.inputs)
    else:
        [cache] = build(dataset, model)
        count = cache.shard_count
    seconds = time.perf_counter() - start
    if traced:  # what Python and NumPy, and beside them Arrow, held at most
        peak = tracemalloc.get_traced_memory()[1] + pa.default_memory_pool().max_memory()
        return {"MiB": peak / 2**20}
    return {"what": what, "shards": count, "seconds": seconds}


def main() -> None:
    """Read the command line and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--look", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.look:
        tiny(given.look[0] != "up-to-date build, 50,000 images")
        print(json.dumps(look(*given.look[:4], traced=given.look[4] == "traced")))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        tiny(True)
        dataset_id = prepare(folder, given.shards)
        report(build_over_cluster(folder, dataset_id, given.shards), given.json)
        workspace = Workspace.at(f"{folder}/workspace")
        cache_id = workspace.names("caches")[0]
        rows = [
            _apart("open, and look at every receipt", folder, dataset_id, cache_id),
            _apart("up-to-date build", folder, dataset_id, cache_id),
        ]
        withdraw_commit(workspace, cache_id)
        rows.append(_apart("plan and completeness, unfinished", folder, dataset_id, cache_id))
        workspace.delete(cache_key(cache_id))
        tiny(False)
        dataset_id = prepare(folder, KNOWN_IMAGES)
        [cache] = build(open_dataset(workspace, dataset_id), extractor())
        (folder / "tiny.png").unlink()  # nobody shall read it again
        rows.append(_apart("up-to-date build, 50,000 images", folder, dataset_id, cache.id))
        print()
        report(rows, None)


def tiny(one_image: bool) -> None:
    """Cut caches into shards of one image, or as usual."""
    plans_module.BATCH_SIZE = 1 if one_image else 32
    plans_module.MAX_IMAGES_PER_SHARD = 1 if one_image else 1024


def _apart(what: str, folder: Path, dataset_id: str, cache_id: str) -> dict:
    row: dict = {}
    for how in ("timed", "traced"):
        command = [sys.executable, "-m", "benchmarks.scale", "--look", what, str(folder)]
        command += [dataset_id, cache_id, how]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        row |= json.loads(done.stdout)
    return row


if __name__ == "__main__":
    main()
