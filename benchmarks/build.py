"""A build beside a bare loop that decodes with the same threads and runs the same model.

``python -m benchmarks.build --images DIR`` prints images a second of both, in interleaved pairs.
``--memory`` prints the peak memory of builds of two sizes instead, each in its own process.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.pairs import compare, report
from vfs_ops import FeatureExtractor, Workspace, build, ingest, load_model
from vfs_ops.images import fit
from vfs_ops.pipeline import available_threads
from vfs_ops.plans import BATCH_SIZE


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


def speed(images: Path, count: int, model: str, layers: list[str], pairs: int) -> list[dict]:
    """Measure a build of `count` images, and the bare loop over the same files."""
    extractor = FeatureExtractor(load_model(model), layers)
    threads = available_threads()
    with tempfile.TemporaryDirectory() as folder:
        links, paths = Path(folder) / "images", []
        links.mkdir()
        for number, path in enumerate(_cycle(images, count)):
            paths.append(links / f"{number:06d}{path.suffix}")
            os.link(path, paths[-1]) if _same_device(path, links) else paths[-1].write_bytes(
                path.read_bytes()
            )
        dataset = ingest(str(links), Workspace.at(f"{folder}/workspace"))
        built = iter(range(10_000))

        def ours() -> None:
            build(dataset, extractor, workspace=Workspace.at(f"{folder}/{next(built)}"))

        result = compare(ours, lambda: bare_loop(paths, extractor, threads), pairs).summary()
    return [
        {
            "images": count,
            "threads": threads,
            "ours_images_per_s": count / result["ours_seconds"],
            "bare_loop_images_per_s": count / result["peer_seconds"],
            "speed_of_bare_loop": result["ratio"],
            "min": result["ratio_min"],
            "max": result["ratio_max"],
            "pairs": result["pairs"],
        }
    ]


def memory(images: Path, counts: list[int], model: str, layers: list[str]) -> list[dict]:
    """Measure the peak memory of whole processes that ingest and build."""
    rows: list[dict] = []
    for count in counts:
        command = [sys.executable, "-m", "benchmarks.build", "--images", str(images)]
        command += ["--model", model, "--one-build", str(count), "--layers", *layers]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append({"images": count, "peak_MiB": float(done.stdout)})
        rows[-1]["to_first"] = rows[-1]["peak_MiB"] / rows[0]["peak_MiB"]
    return rows


def one_build(images: Path, count: int, model: str, layers: list[str]) -> None:
    """Ingest and build `count` images, then print this process's peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "images.csv"
        names = [str(path.resolve()) for path in _cycle(images, count)]
        table.write_text("\n".join(["path", *names]) + "\n")
        dataset = ingest(str(table), Workspace.at(f"{folder}/workspace"))
        build(dataset, FeatureExtractor(load_model(model), layers))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _cycle(images: Path, count: int) -> list[Path]:
    files = sorted(path for path in images.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    return [files[number % len(files)] for number in range(count)]


def _same_device(path: Path, folder: Path) -> bool:
    return path.stat().st_dev == folder.stat().st_dev


def main() -> None:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--layers", nargs="+", default=["blocks.4", "blocks.6"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--memory", type=int, nargs="*", metavar="COUNT")
    parser.add_argument("--one-build", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.one_build:
        one_build(given.images, given.one_build, given.model, given.layers)
    elif given.memory is not None:
        counts = given.memory or [2_000, 20_000]
        report(memory(given.images, counts, given.model, given.layers), given.json)
    else:
        report(speed(given.images, given.count, given.model, given.layers, given.pairs), given.json)


if __name__ == "__main__":
    main()
