"""What Prefect and Dask cost a build, in seconds: ``python -m benchmarks.flow``.

The same small build, of shards of 16 tiny images, runs as a plain job in this process and as a
tracked flow, which opens a cluster of one process of its own, in interleaved pairs. Two sizes tell
the fixed cost (Dask's processes, their imports and model, Prefect's flow and its artifacts) from
that of a shard. All of it, the Prefect server too, has one processor, so nothing hides beside the
work. Only the server is started before.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from flows.jobs.building import BuildJob, ExtractorChoice
from flows.jobs.ingestion import IngestJob
from flows.running import run_tracked
from vfs_ops.caches import plans
from vfs_ops.store.workspace import Workspace

TEN_MINUTES = 600.0
IMAGES_PER_SHARD = 16
SHARDS_OF_TEN_MINUTES = 50
"""50,000 images of 1,024 a shard."""


def write_images(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.png")


def seconds(folder: Path, images: Path, tracked: bool) -> float:
    workspace = Workspace.at(tempfile.mkdtemp(dir=folder))
    IngestJob(workspace=workspace.url, name="tiny", source=str(images)).run()
    choice = ExtractorChoice(
        model="torchvision:squeezenet1_1", weights="random:0", layers=("features.12",)
    )
    job = BuildJob(
        workspace=workspace.url,
        dataset="tiny",
        extractors=(choice,),
        workers=1,
    )
    started = time.perf_counter()
    if tracked:
        run_tracked(job)
    else:
        with mock.patch("flows.jobs.clusters.LazyCluster.client", _here):
            job.run()
    return time.perf_counter() - started


def _here(_self: object) -> object:
    return contextlib.nullcontext(None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--shards", type=int, nargs=2, default=(2, 12))
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import torch
    from prefect.testing.utilities import prefect_test_harness

    torch.set_num_threads(1)
    with (
        tempfile.TemporaryDirectory() as temporary,
        mock.patch.object(plans, "MAX_IMAGES_PER_SHARD", IMAGES_PER_SHARD),
        mock.patch.object(plans, "BATCH_SIZE", IMAGES_PER_SHARD),
        prefect_test_harness(server_startup_timeout=120),
    ):
        folder = Path(temporary)
        costs = {}
        for shards in given.shards:
            images = folder / f"images-{shards}"
            write_images(images, shards * IMAGES_PER_SHARD)
            seconds(folder, images, True)  # warm
            found = []
            for pair in range(given.pairs):
                took = {how: seconds(folder, images, how) for how in (bool(pair % 2), not pair % 2)}
                found.append(took[True] - took[False])
            costs[shards] = statistics.median(found)
            print(
                f"{shards:>3} shards: flow - plain {costs[shards]:.2f} s "
                f"(of {', '.join(f'{each:.2f}' for each in sorted(found))})",
                flush=True,
            )
    few, many = given.shards
    each = (costs[many] - costs[few]) / (many - few)
    fixed = costs[few] - few * each
    whole = fixed + SHARDS_OF_TEN_MINUTES * max(each, 0)
    print(f"fixed {fixed:.2f} s, a shard {1000 * each:.0f} ms")
    print(
        f"of a 10-minute build of {SHARDS_OF_TEN_MINUTES} shards: {100 * whole / TEN_MINUTES:.1f} %"
    )


if __name__ == "__main__":
    main()
