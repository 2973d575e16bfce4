"""Searches of caches on local disk, and their floors: ``python -m benchmarks.scan``.

Each row compares a search with something that any search of the same bytes must do at least, in
interleaved pairs: `ratio` is that floor's time over ours, so 0.8 means that we take 1.25 times as
long. What is promised: warm, 0.8 of reading and decoding the same arrays, by our reader and by
Zarr, and 0.5 of reading the same files raw; 0.9 of two threads by a cluster of two processes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import scan_caches
from benchmarks.pairs import compare
from benchmarks.report import Result, save, write
from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.scans.plan import plan_scan
from vfs_ops.scans.search import search
from vfs_ops.store.workspace import Workspace

GIB = 2**30
PROMISED = {"read and decode": 0.8, "Zarr": 0.8, "raw files": 0.5, "2 threads": 0.9}
PEAK_GIB = 1.5


def local(cache: Cache, pairs: int) -> list[Result]:
    """Time one 3×3 query on warm and cold files, with one and two threads."""
    rows: list[Result] = []
    [query] = scan_caches.random_queries(cache, 1)
    floors: dict[str, Callable[[Cache, int], None]] = {
        "read and decode": scan_caches.read_and_decode,
        "Zarr": scan_caches.read_by_zarr,
        "raw files": scan_caches.read_raw,
    }
    for state in ("warm", "cold"):
        for threads in (2, 1) if state == "warm" else (2,):
            for name, floor in floors.items():

                def ours(threads: int = threads, state: str = state) -> object:
                    return search(cache, query, 50, threads=threads)

                def peer(
                    floor: Callable[[Cache, int], None] = floor, threads: int = threads
                ) -> object:
                    return floor(cache, threads)

                made = compare(
                    *(forgetting(cache, run) if state == "cold" else run for run in (ours, peer)),
                    pairs,
                )
                case = {"case": f"{state}, {threads} threads", "floor": name}
                rows.append(Result.beside_floor("local", case, made))
    return rows


def forgetting(cache: Cache, run: Callable[[], object]) -> Callable[[], object]:
    """Return what drops the files from memory first; dropping is part of both sides."""

    def cold() -> object:
        scan_caches.forget(cache)
        return run()

    return cold


def cluster(cache: Cache, pairs: int) -> list[Result]:
    """Time two processes of one thread against two threads."""
    from distributed import Client, LocalCluster

    [query] = scan_caches.random_queries(cache, 1)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as processes,
        Client(processes, set_as_default=False) as client,
    ):
        made = compare(
            lambda: search(cache, query, 50, client=client),
            lambda: search(cache, query, 50, threads=2),
            pairs,
        )
    return [Result.beside_floor("cluster", {"case": "2 processes", "floor": "2 threads"}, made)]


def batches(cache: Cache, pairs: int) -> list[Result]:
    """Time 1, 10, 100 and 500 queries in one scan against one; the floor reads and decodes."""
    rows: list[Result] = []
    floor_s = median_seconds(lambda: scan_caches.read_and_decode(cache, 2), pairs)
    for count in (1, 10, 100, 500):
        queries = scan_caches.random_queries(cache, count)
        made = compare(
            lambda queries=queries: search(cache, queries=queries, k=50, threads=2),  # type: ignore[misc]
            lambda queries=queries: search(cache, queries[0], 50, threads=2),  # type: ignore[misc]
            pairs if count < 100 else 1,
        )
        summary = made.summary()
        times = 1 / summary["ratio"]
        case = {"case": f"{count} queries", "times_one_query": times, "of_each": times / count}
        rows.append(Result("batches", case, summary["ours_seconds"], floor_s))
    return rows


def linear(cache: Cache) -> list[Result]:
    """Time more and more images, and fit a line; the floor reads and decodes."""
    [query] = scan_caches.random_queries(cache, 1)
    counts, seconds, floors = [], [], []
    for images, part in scan_caches.shard_prefixes(cache, (1000, 5000, 10_000, 25_000, 50_000)):
        if counts and images <= counts[-1]:
            break
        ours, floor = (
            lambda part=part: search(part, query, 50, threads=2, allow_partial=True),  # type: ignore[misc]
            lambda part=part: scan_caches.read_and_decode(part, 2),  # type: ignore[misc]
        )
        counts.append(images)
        seconds.append(median_seconds(ours, 3))
        floors.append(median_seconds(floor, 3))
    slope, offset = np.polyfit(counts, seconds, 1)
    fitted = np.polyval((slope, offset), counts)
    spread = (
        np.square(np.array(seconds) - fitted).sum()
        / np.square(np.array(seconds) - np.mean(seconds)).sum()
    )
    line = f"{1e6 * slope:.2f} µs an image + {1e3 * offset:.1f} ms; R² = {1 - spread:.4f}"
    print(line)
    return [
        Result("linear", {"case": f"{images} images", "fitted": float(fit)}, one, floor, notes=line)
        for images, one, fit, floor in zip(counts, seconds, fitted, floors, strict=True)
    ]


def median_seconds(run: Callable[[], object], times: int) -> float:
    """Run something once unmeasured and then some times; returns the median."""
    run()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def overhead() -> list[Result]:
    """Plan and run 1,000 shards of almost nothing."""
    from made_caches import made_cache, made_query

    maps = np.random.default_rng(0).standard_normal((4000, 1, 1, 8)).astype(np.float16)
    cache = made_cache(Workspace.in_memory(), maps, images_per_shard=4)
    query = made_query(cache, np.ones((1, 1)), maps[0])
    search(cache, query)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        plan = plan_scan(cache, threads=1)
        planned = time.perf_counter()
        hits = search(cache, query, threads=1)
        found = hits.provenance  # the search makes a plan, too
        busy = (
            planned
            - started
            + found.seconds_reading
            + found.seconds_decoding
            + found.seconds_scoring
        )
        times.append((planned - started, time.perf_counter() - planned - busy))
    plans, rest = np.median(times, axis=0)
    shards = f"{len(plan.tasks)} shards"
    return [
        Result("overhead", {"case": f"plan of {shards}"}, float(plans), notes="100 ms are allowed"),
        Result(
            "overhead",
            {"case": f"search of {shards}, without plan, reading, decoding and scoring"},
            float(rest),
            notes=f"{1e3 * rest / len(plan.tasks):.2f} ms a shard",
        ),
    ]


def peak_of_search(url: str, cache_id: str, threads: int) -> dict[str, object]:
    """Search in this process, which has done nothing else, and return its peak memory."""
    cache = open_cache(Workspace.at(url), cache_id)
    before = peak_gib()
    [query] = scan_caches.random_queries(cache, 1)
    hits = search(cache, query, 50, threads=threads)
    peak = peak_gib()
    return {
        "case": f"{cache.count} images, {cache.feature_bytes / GIB:.2f} GiB, {threads} threads",
        "peak_gib": peak,
        "before_gib": before,
        "plan_gib": plan_scan(cache, threads=threads, queries=[query]).memory_bytes / GIB,
        "seconds": hits.provenance.seconds,
        "floor": median_seconds(lambda: scan_caches.read_raw(cache, threads), 3),
    }


def peak_apart(cache: Cache, threads: int) -> Result:
    """Search in a process of its own, and return its time and peak memory."""
    command = [sys.executable, "-m", "benchmarks.scan", "--peak-of", cache.workspace.url, cache.id]
    done = subprocess.run([*command, str(threads)], check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    return Result("memory", found, found.pop("seconds"), found.pop("floor"))


def peak_gib() -> float:
    """Return the peak resident size of this process alone; `getrusage` counts its parent's too."""
    status = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 2**20


def main() -> int:
    """Read the command line and print a table for each suite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="of 7×7×512")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved timings of each")
    parser.add_argument("--folder", type=Path, help="keep the made cache there, and use it again")
    suites = ("local", "cluster", "batches", "linear", "overhead", "memory")
    parser.add_argument("--suites", nargs="+", choices=suites, default=suites)
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--peak-of", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak_of:
        url, cache_id, threads = given.peak_of
        print(json.dumps(peak_of_search(url, cache_id, int(threads))))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        name = f"{given.images}" if given.dtype == "float16" else f"{given.images}_{given.dtype}"
        folder = (given.folder or Path(temporary)) / name
        workspace = Workspace.at(str(folder))
        made = workspace.names("caches")
        if made:
            cache = open_cache(workspace, made[0])
        else:
            cache = scan_caches.random_cache(workspace, given.images, given.dtype)
        size = cache.feature_bytes / GIB
        print(
            f"{given.images} images of 7×7×512 {given.dtype}, {size:.2f} GiB, "
            f"{cache.shard_count} shards"
        )
        results: list[Result] = []
        for suite in given.suites:
            print(f"\n-- {suite}")
            if suite == "memory":
                rows = [peak_apart(cache, threads) for threads in (2, 4)]
            else:
                rows = {
                    "local": lambda: local(cache, given.pairs),
                    "cluster": lambda: cluster(cache, given.pairs),
                    "batches": lambda: batches(cache, given.pairs),
                    "linear": lambda: linear(cache),
                    "overhead": overhead,
                }[suite]()
            write(rows, f"scan_{suite}_{name}")
            results += rows
    if given.json is not None:
        save(results, given.json)
    kept = [
        row.ratio >= PROMISED[str(row.case["floor"])]
        for row in results
        if row.ratio is not None
        and "cold" not in str(row.case["case"])
        and "1 threads" not in str(row.case["case"])
    ]
    kept += [row.case["peak_gib"] < PEAK_GIB for row in results if row.suite == "memory"]  # type: ignore[operator]
    print(f"\n{sum(kept)} of {len(kept)} promises kept")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
