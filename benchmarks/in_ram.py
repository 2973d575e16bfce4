"""Search in memory: masks, grids, queries, types, threads and numbers of images.

``python -m benchmarks.in_ram [--suites main grids types threads queries images]`` times our kernel
on resident blocks beside PyPI's visualfeaturesearch 1.0.0 where that can run in time, and beside
the floor, one pass that reads the same stored values with the same threads, in interleaved pairs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.pairs import Comparison, compare
from benchmarks.report import Result, write
from benchmarks.search_reference import reference_tool
from vfs_ops.caches.values import squared_norms
from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Block, Part, Scratch
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.scoring import best_of_parts

HITS = 50
SHARD_BYTES = 32 << 20


class Arrays:
    """Post-ReLU noise as feature maps, in shards as a cache holds them."""

    def __init__(self, images: int, shape: tuple[int, int, int], dtype: str) -> None:
        rng = np.random.default_rng(1)
        self.shape, self.dtype = shape, dtype
        self.features = np.empty((images, *shape), dtype)
        for start in range(0, images, 500):
            part = self.features[start : start + 500]
            part[:] = np.maximum(rng.standard_normal(part.shape, dtype=np.float32), 0)
        self.queries = np.abs(rng.standard_normal((500, *shape), dtype=np.float32))
        held = self.features[0].nbytes
        rows, norms = 1 << ((SHARD_BYTES // held).bit_length() - 1), squared_norms(self.features)
        self.parts = []
        for start in range(0, images, min(rows, 1024)):
            some = slice(start, start + min(rows, 1024))
            block = Block.of(self.features[some], norms[some]).resident()
            numbers = np.arange(start, start + len(block))
            self.parts.append(Part(block, numbers, numbers, np.ones(len(block), np.bool_)))
        self.words, self.scratch = torch.from_numpy(self.features).view(torch.int64), Scratch()

    def case(self, queries: int, size: int) -> dict[str, object]:
        """Describe a search; `held` are the bytes of all forms over the stored features'."""
        bytes_held = sum(part.block.nbytes for part in self.parts)
        return {
            "grid": "×".join(map(str, self.shape)),
            "dtype": self.dtype,
            "images": len(self.features),
            "held": f"{bytes_held / self.features.nbytes:.2f}",
            "threads": torch.get_num_threads(),
            "queries": queries,
            "mask": f"{size}×{size}",
        }

    def ours(self, queries: int, size: int) -> Callable[[], object]:
        """Return our search, from the queries' features to hits."""

        def run() -> object:
            patterns = [
                Pattern.of(np.ones((size, size), np.float32), query[:size, :size])
                for query in self.queries[:queries]
            ]
            batch = Batch.of(patterns, self.shape[:2])
            return best_of_parts(batch, self.parts, HITS, scratch=self.scratch)

        return run

    def reference(self, size: int) -> Callable[[], object]:
        """Return the reference's search with one query."""
        tool = reference_tool(self.queries[0], self.features)
        weights = np.zeros(self.shape[:2], np.float32)
        weights[:size, :size] = 1
        return lambda: torch.topk(tool.compute(weights)[0], HITS)


def beside(arrays: Arrays, suite: str, queries: int, size: int, pairs: int, peer: bool) -> Result:
    ours = arrays.ours(queries, size)
    floor = compare(ours, arrays.words.sum, pairs).summary()
    case, seconds, least = arrays.case(queries, size), floor["ours_seconds"], floor["peer_seconds"]
    if not peer:
        return Result(suite, case, seconds, least, pairs=pairs)
    singly = compare(ours, arrays.reference(size), pairs)
    found = Comparison(singly.ours, tuple(one * queries for one in singly.peer)).summary()
    return Result(
        suite,
        case,
        found["ours_seconds"],
        least,
        found["peer_seconds"],
        found["ratio"],
        found["ratio_min"],
        found["ratio_max"],
        pairs,
        f"reference: one query, times {queries}" if queries > 1 else "",
    )


def run(suites: list[str], images: int, pairs: int) -> list[Result]:
    results: list[Result] = []
    arrays = Arrays(images, (7, 7, 512), "float16")
    if "main" in suites:
        results += [beside(arrays, "main", 1, size, pairs, True) for size in (3, 7)]
        results += [beside(arrays, "main", 100, 3, max(pairs // 2, 2), True)]
    if "masks" in suites:
        results += [beside(arrays, "masks", 1, size, pairs, False) for size in (1, 3, 5, 7)]
    if "queries" in suites:
        for queries in (1, 10, 100, 500):
            results.append(beside(arrays, "queries", queries, 3, 2, False))
    if "threads" in suites:
        before = torch.get_num_threads()
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results += [beside(arrays, "threads", 1, size, pairs, False) for size in (3, 7)]
        torch.set_num_threads(before)
    del arrays
    if "types" in suites:
        arrays = Arrays(images, (7, 7, 512), "float32")
        results += [beside(arrays, "types", 1, size, pairs, False) for size in (3, 7)]
        del arrays
    if "grids" in suites:
        for shape in ((14, 14, 256), (7, 7, 2048), (28, 28, 128)):
            arrays = Arrays(images * 7 * 7 * 512 // int(np.prod(shape)), shape, "float16")
            sizes = (1, 3, 5, shape[0])
            results += [beside(arrays, "grids", 1, size, pairs, False) for size in sizes]
            del arrays
    if "images" in suites:
        some = []
        for count in (1_000, 2_000, 5_000, 10_000, 20_000, 50_000):
            some.append(beside(Arrays(count, (7, 7, 512), "float16"), "images", 1, 3, pairs, False))
        counts = np.array([float(str(one.case["images"])) for one in some])
        seconds = np.array([one.ours_s for one in some])
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
    given = parser.parse_args()
    started = time.perf_counter()
    write(run(given.suites, given.images, given.pairs), f"in_ram_{'_'.join(given.suites)}")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
