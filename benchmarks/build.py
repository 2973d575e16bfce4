"""A build beside a bare loop that decodes with the same threads and runs the same model.

``python -m benchmarks.build --images DIR`` prints images a second of both, in interleaved pairs;
``--cluster`` builds on a local cluster of one worker, its start not counted. ``--ingest`` counts
reading the images a first time, with their previews, too. Builds keep the memory that they free,
which an ordinary loop does not; ``--kept`` lets the loop keep it too, the floor of a build.
``--workers`` compares two workers, each pinned to one processor and one thread, with one: the
processor seconds an image that the workers use, and beside them the seconds by the clock. Shards
are cut small there, so that there is work for two.
``--memory`` prints the peak memory of builds of two sizes, each in its own process, beside what
the plan projects.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from unittest import mock

import numpy as np
import psutil
from PIL import Image

from benchmarks.pairs import compare, report
from vfs_ops import FeatureExtractor, Workspace, build, ingest, load_model
from vfs_ops.builds.allocation import freed_memory_kept
from vfs_ops.builds.builder import plan_build
from vfs_ops.builds.clusters import open_cluster
from vfs_ops.builds.pipeline import available_threads
from vfs_ops.caches import plans
from vfs_ops.caches.plans import BATCH_SIZE
from vfs_ops.images.decoding import fit


def bare_loop(paths: list[Path], extractor: FeatureExtractor, threads: int) -> None:
    """Decode batch by batch, one batch ahead of the model; keep nothing."""

    def load(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return fit(image.convert("RGB"), extractor.preprocessing)

    with ThreadPoolExecutor(threads) as pool:
        loaded = _ahead(pool, load, paths)
        while batch := list(islice(loaded, BATCH_SIZE)):
            extractor.features(np.stack(batch))


def _ahead(pool: ThreadPoolExecutor, load, paths: list[Path]) -> Iterator[np.ndarray]:
    futures = [pool.submit(load, path) for path in paths[: 2 * BATCH_SIZE]]
    for path in paths[2 * BATCH_SIZE :]:
        futures.append(pool.submit(load, path))
        yield futures.pop(0).result()
    for future in futures:
        yield future.result()


def photos(images: Path, count: int, folder: Path) -> list[Path]:
    """Make a folder of `count` photos, the given ones again and again."""
    links, paths = folder / "images", []
    links.mkdir()
    for number, path in enumerate(_cycle(images, count)):
        paths.append(links / f"{number:06d}{path.suffix}")
        if path.stat().st_dev == links.stat().st_dev:
            os.link(path, paths[-1])
        else:
            paths[-1].write_bytes(path.read_bytes())
    return paths


def speed(given: argparse.Namespace) -> list[dict]:
    """Measure a build, and the bare loop over the same files."""
    extractor = FeatureExtractor(load_model(given.model), given.layers)
    threads = available_threads()
    built = iter(range(10_000))
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        paths = photos(given.images, given.count, folder)
        dataset = ingest(str(folder / "images"), Workspace.at(f"{folder}/workspace"))
        client = None
        if given.cluster:
            client = stack.enter_context(open_cluster("local", workers=1, threads=threads))

        def ours() -> None:
            workspace = Workspace.at(f"{folder}/{next(built)}")
            source = ingest(str(folder / "images"), workspace) if given.ingest else dataset
            build(source, extractor, workspace=workspace, client=client)

        def bare() -> None:
            with freed_memory_kept() if given.kept else contextlib.nullcontext():
                bare_loop(paths, extractor, threads)

        compared = compare(ours, bare, given.pairs)
    result = compared.summary()
    return [
        {
            "images": given.count,
            "threads": threads,
            "memory_of_loop": "kept" if given.kept else "as usual",
            "ours_images_per_s": given.count / result["ours_seconds"],
            "bare_loop_images_per_s": given.count / result["peer_seconds"],
            "speed_of_bare_loop": result["ratio"],
            "min": result["ratio_min"],
            "max": result["ratio_max"],
            "pairs": result["pairs"],
        }
    ]


def workers(given: argparse.Namespace) -> list[dict]:
    """Measure builds by one and by two pinned workers, in turns."""
    extractor = FeatureExtractor(load_model(given.model), given.layers)
    built = iter(range(10_000))
    ratios: list[tuple[float, float]] = []
    seconds: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    small = mock.patch.object(plans, "MAX_IMAGES_PER_SHARD", BATCH_SIZE)
    with tempfile.TemporaryDirectory() as name, small, contextlib.ExitStack() as stack:
        folder = Path(name)
        photos(given.images, given.count, folder)
        dataset = ingest(str(folder / "images"), Workspace.at(f"{folder}/workspace"))
        clients = {
            count: stack.enter_context(open_cluster("local", workers=count, threads=1))
            for count in seconds
        }
        for client in clients.values():
            for processor, worker in enumerate(client.scheduler_info(n_workers=-1)["workers"]):
                client.run(_pin, processor, workers=[worker])
        for pair in range(given.pairs + 1):
            for count, client in clients.items():
                before, start = sum(client.run(_processor_seconds).values()), time.perf_counter()
                workspace = Workspace.at(f"{folder}/{next(built)}")
                build(dataset, extractor, workspace=workspace, client=client)
                took = time.perf_counter() - start
                used = sum(client.run(_processor_seconds).values()) - before
                if pair:  # the first is not counted
                    seconds[count].append((used, took))
        ratios = [
            (two[0] / one[0], one[1] / two[1])
            for one, two in zip(seconds[1], seconds[2], strict=True)
        ]
    rows = []
    for name, place in (("processor seconds, two to one", 0), ("speed, two to one", 1)):
        values = [ratio[place] for ratio in ratios]
        rows.append(
            {"what": name, "ratio": statistics.median(values), "min": min(values)}
            | {"max": max(values), "pairs": len(values)}
        )
    for count, values in seconds.items():
        rows.append({"what": f"processor seconds an image, {count} worker(s)"})
        rows[-1]["ratio"] = statistics.median(used for used, _ in values) / given.count
    return rows


def _pin(processor: int) -> None:
    for thread in psutil.Process().threads():
        os.sched_setaffinity(thread.id, {processor})


def _processor_seconds() -> float:
    used = psutil.Process().cpu_times()
    return used.user + used.system


def memory(images: Path, counts: list[int], model: str, layers: list[str]) -> list[dict]:
    """Measure the peak memory of whole processes that ingest and build."""
    rows: list[dict] = []
    for count in counts:
        command = [sys.executable, "-m", "benchmarks.build", "--images", str(images)]
        command += ["--model", model, "--one-build", str(count), "--layers", *layers]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peak, projected = map(float, done.stdout.split())
        rows.append({"images": count, "peak_MiB": peak, "projected_MiB": projected})
        rows[-1]["to_first"] = rows[-1]["peak_MiB"] / rows[0]["peak_MiB"]
    return rows


def one_build(images: Path, count: int, model: str, layers: list[str]) -> None:
    """Ingest and build `count` images, then print this process's peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "images.csv"
        names = [str(path.resolve()) for path in _cycle(images, count)]
        table.write_text("\n".join(["path", *names]) + "\n")
        dataset = ingest(str(table), Workspace.at(f"{folder}/workspace"))
        extractor = FeatureExtractor(load_model(model), layers)
        projected = plan_build(dataset, extractor)[0].worker_memory
        build(dataset, extractor)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, projected / 2**20)


def _cycle(images: Path, count: int) -> list[Path]:
    files = sorted(path for path in images.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    return [files[number % len(files)] for number in range(count)]


def main() -> None:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--layers", nargs="+", default=["blocks.4", "blocks.6"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--ingest", action="store_true")
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--memory", type=int, nargs="*", metavar="COUNT")
    parser.add_argument("--one-build", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.one_build:
        one_build(given.images, given.one_build, given.model, given.layers)
    elif given.memory is not None:
        counts = given.memory or [2_000, 20_000]
        report(memory(given.images, counts, given.model, given.layers), given.json)
    elif given.workers:
        report(workers(given), given.json)
    else:
        report(speed(given), given.json)


if __name__ == "__main__":
    main()
