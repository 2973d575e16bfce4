"""What the two fast passes take, the compiled loop and the compact form, alone and with the rest.

A part of ``python -m benchmarks.products``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.pairs import compare
from vfs_ops.caches.values import squared_norms
from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Block, Part, Scratch
from vfs_ops.kernel.compact import tiles_of
from vfs_ops.kernel.compiled import add_up, registers, scratch_values
from vfs_ops.kernel.exact import Pattern
from vfs_ops.kernel.scoring import best_of_parts

SHAPE = (7, 7, 512)
BLOCK, HITS, PAIRS = 512, 50, 5
IN_CACHE = 20
"""Images of 50 KB each, which the second-level cache of one core holds."""
CASES = {"3×3": (1, 3), "whole image": (1, 7), "10 whole images": (10, 7), "24 of 3×3": (24, 3)}


def measure(images: int) -> list[dict[str, object]]:
    """Time both passes over the same post-ReLU images, in milliseconds."""
    stored = list(_parts(images))
    compact = [replace(part, block=_compact(part.block)) for part in stored]
    rng, rows = np.random.default_rng(1), []
    for name, (queries, size) in CASES.items():
        ones, shape = np.ones((size, size), np.float32), (size, size, SHAPE[2])
        noise = np.maximum(rng.standard_normal((queries, *shape), dtype=np.float32), 0)
        batch = Batch.of([Pattern.of(ones, one) for one in noise], SHAPE[:2])
        row: dict[str, object] = {"threads": torch.get_num_threads(), "queries": name}
        if torch.get_num_threads() == 1:
            row["loop in cache"] = _in_cache(batch, stored[0].block, images)
        for what, floor in (("", 2.0), (", decided", -np.inf)):  # nothing reaches 2
            floors = np.full(queries, floor)
            made = compare(_loop(batch, stored, floors), _int8(batch, compact, floors), PAIRS)
            found = made.summary()
            row[f"loop{what}"] = found["ours_seconds"] * 1e3
            row[f"compact{what}"] = found["peer_seconds"] * 1e3
        rows.append(row)
    return rows


def _parts(images: int) -> list[Part]:
    noise = np.random.default_rng(0).standard_normal((BLOCK, *SHAPE), dtype=np.float32)
    base = np.maximum(noise, 0).astype(np.float16).reshape(BLOCK, -1)
    made = []
    for start in range(0, images, BLOCK):
        numbers = np.arange(start, min(start + BLOCK, images))
        features = np.roll(base, start * 37, axis=1)[: len(numbers)].reshape(-1, *SHAPE)
        block = Block.of(features, squared_norms(features))
        made.append(Part(block, numbers, numbers, np.ones(len(numbers), np.bool_)))
    return made


def _compact(block: Block) -> Block:
    return replace(block, tiles=tiles_of(block.features, block.norms))


def _loop(batch: Batch, parts: Sequence[Part], floors: np.ndarray) -> Callable[[], object]:
    scratch = Scratch()
    return lambda: best_of_parts(batch, parts, HITS, floors, scratch)


def _int8(batch: Batch, parts: Sequence[Part], floors: np.ndarray) -> Callable[[], object]:
    scratch = Scratch()

    def run() -> object:
        with patch("vfs_ops.kernel.scoring._compact_is_faster", lambda *given: True):
            return best_of_parts(batch, parts, HITS, floors, scratch)

    return run


def _in_cache(batch: Batch, block: Block, images: int) -> float | str:
    """Time the loop alone, over a few images again and again."""
    held, features = registers(), block.features.numpy()
    if held is None:
        return ""
    rows = np.arange(images) % IN_CACHE
    tables = [
        (
            taps,
            np.empty(scratch_values(taps, held), np.float32),
            np.empty((taps.sums, images), np.float32),
        )
        for _, taps in batch.taps
    ]

    def run() -> None:
        for taps, scratch, sums in tables:
            add_up(features, rows, taps, held, scratch, sums)

    return compare(run, lambda: None, PAIRS).summary()["ours_seconds"] * 1e3
