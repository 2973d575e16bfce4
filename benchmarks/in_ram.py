"""Search in memory: masks, grids, queries, types, threads and numbers of images.

``python -m benchmarks.in_ram [--suites main grids types threads queries images]`` times
``search(cache.load(), …)``, as a user calls it, beside PyPI's visualfeaturesearch 1.0.0 where that
can run in time, and beside the floor, one pass that reads the same stored values with the same
threads, in interleaved pairs. A second row for each says what the kernel alone takes of it.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks import scan_caches
from benchmarks.pairs import Comparison, compare
from benchmarks.report import Result, write
from benchmarks.search_reference import reference_tool
from vfs_ops.caches.residency import ResidentShards
from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Part, Scratch
from vfs_ops.kernel.scoring import best_of_parts
from vfs_ops.scans.search import search
from vfs_ops.store.workspace import Workspace

HITS = 50


class Loaded:
    """A cache in memory, of post-ReLU noise."""

    def __init__(
        self, folder: Path, images: int, shape: tuple[int, int, int], dtype: str = "float16"
    ) -> None:
        stored = scan_caches.random_cache(Workspace.at(str(folder)), images, dtype, shape)
        self.cache = stored.load()
        assert isinstance(self.cache.source, ResidentShards)
        self.shape, self.dtype, self.scratch = shape, dtype, Scratch()
        self.shards = list(self.cache.source.shards.values())
        self.parts, start = [], 0
        for shard in self.shards:
            numbers = np.arange(start, start + len(shard.features))
            start += len(numbers)
            every = np.ones(len(numbers), np.bool_)
            assert shard.block is not None
            self.parts.append(Part(shard.block, numbers, numbers, every))

    def case(self, what: str, queries: int, size: int) -> dict[str, object]:
        """Describe a search; `held` are the bytes of all forms over the stored features'."""
        held = sum(part.block.nbytes for part in self.parts) / self.cache.feature_bytes
        return {
            "what": what,
            "grid": "×".join(map(str, self.shape)),
            "dtype": self.dtype,
            "images": self.cache.count,
            "held": f"{held:.2f}",
            "threads": torch.get_num_threads(),
            "queries": queries,
            "mask": f"{size}×{size}",
        }

    def search(self, queries: int, size: int) -> Callable[[], object]:
        """Return the search that a user runs."""
        asked = scan_caches.random_queries(self.cache, queries, size)
        threads = torch.get_num_threads()
        if queries == 1:
            return lambda: search(self.cache, asked[0], HITS, threads=threads)
        return lambda: search(self.cache, queries=asked, k=HITS, threads=threads)

    def kernel(self, queries: int, size: int) -> Callable[[], object]:
        """Return what the kernel does for it."""
        patterns = [one.pattern for one in scan_caches.random_queries(self.cache, queries, size)]

        def run() -> object:
            batch = Batch.of(patterns, self.shape[:2])
            return best_of_parts(batch, self.parts, HITS, scratch=self.scratch)

        return run

    def floor(self) -> None:
        """Read the stored values once."""
        for part in self.parts:
            part.block.features.view(torch.int64).sum()

    def reference(self, size: int) -> Callable[[], object]:
        """Return the reference's search with one query."""
        features = np.concatenate([shard.features for shard in self.shards])
        query = np.zeros(self.shape, np.float32)
        query[:size, :size] = scan_caches.random_queries(self.cache, 1, size)[0].features
        tool = reference_tool(query, features)
        weights = np.zeros(self.shape[:2], np.float32)
        weights[:size, :size] = 1
        return lambda: torch.topk(tool.compute(weights)[0], HITS)


def rows(
    loaded: Loaded, suite: str, queries: int, size: int, pairs: int, peer: bool = False
) -> list[Result]:
    """Time one case: as a user sees it, and the kernel alone."""
    whole = compare(loaded.search(queries, size), loaded.floor, pairs).summary()
    kernel = compare(loaded.kernel(queries, size), loaded.floor, pairs).summary()
    ours = loaded.case("search", queries, size), whole["ours_seconds"], whole["peer_seconds"]
    alone = loaded.case("kernel", queries, size), kernel["ours_seconds"], kernel["peer_seconds"]
    second = Result(suite, *alone, pairs=pairs)
    if not peer:
        return [Result(suite, *ours, pairs=pairs), second]
    singly = compare(loaded.search(queries, size), loaded.reference(size), pairs)
    found = Comparison(singly.ours, tuple(one * queries for one in singly.peer)).summary()
    first = Result(
        suite,
        ours[0],
        found["ours_seconds"],
        whole["peer_seconds"],
        found["peer_seconds"],
        found["ratio"],
        found["ratio_min"],
        found["ratio_max"],
        pairs,
        f"reference: one query, times {queries}" if queries > 1 else "",
    )
    return [first, second]


@contextmanager
def loaded(images: int, shape: tuple[int, int, int], dtype: str = "float16") -> Iterator[Loaded]:
    """Make a cache on disk and load it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Loaded(Path(folder), images, shape, dtype)
    gc.collect()


def run(suites: list[str], images: int, pairs: int) -> list[Result]:
    results: list[Result] = []
    with loaded(images, (7, 7, 512)) as cache:
        if "main" in suites:
            for queries, size in ((1, 3), (1, 7), (100, 3)):
                results += rows(cache, "main", queries, size, pairs, peer=True)
        if "masks" in suites:
            for size in (1, 3, 5, 7):
                results += rows(cache, "masks", 1, size, pairs)
        if "queries" in suites:
            for queries in (1, 10, 100, 500):
                results += rows(cache, "queries", queries, 3, 2)
        if "threads" in suites:
            before = torch.get_num_threads()
            for threads in (1, 2):
                torch.set_num_threads(threads)
                for size in (3, 7):
                    results += rows(cache, "threads", 1, size, pairs)
            torch.set_num_threads(before)
    if "types" in suites:
        with loaded(images, (7, 7, 512), "float32") as cache:
            for size in (3, 7):
                results += rows(cache, "types", 1, size, pairs)
    if "grids" in suites:
        for shape in ((14, 14, 256), (7, 7, 2048), (28, 28, 128)):
            with loaded(images * 7 * 7 * 512 // int(np.prod(shape)), shape) as cache:
                for size in (1, 3, 5, shape[0]):
                    results += rows(cache, "grids", 1, size, pairs)
    if "images" in suites:
        some: list[Result] = []
        for count in (1_000, 2_000, 5_000, 10_000, 20_000, 50_000):
            with loaded(count, (7, 7, 512)) as cache:
                some += rows(cache, "images", 1, 3, pairs)
        counts = np.array([float(str(one.case["images"])) for one in some[::2]])
        seconds = np.array([one.ours_s for one in some[::2]])
        slope, start = np.polyfit(counts, seconds, 1, w=1 / seconds)
        print(f"3×3: {slope * 1e6:.2f} µs an image and {start * 1e3:.1f} ms a search")
        results += some
    return results


def main() -> None:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    every = ["main", "masks", "queries", "threads", "types", "grids", "images"]
    parser.add_argument("--suites", nargs="+", choices=every, default=every)
    parser.add_argument("--images", type=int, default=10_000, help="of 7×7×512, or as many bytes")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results there")
    given = parser.parse_args()
    started = time.perf_counter()
    results = run(given.suites, given.images, given.pairs)
    write(results, f"in_ram_{'_'.join(given.suites)}", given.json)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
