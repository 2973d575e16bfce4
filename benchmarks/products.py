"""What one product of all cells with some columns takes, in each form that was tried.

``python -m benchmarks.products`` prints milliseconds for 10,000 × 7×7×512, in blocks of 100
images, the median of five; the first column is a pass that only reads the float16 values. A second
table says what the two passes that are used take, which add these products up per window: see
`benchmarks.passes`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks import passes
from benchmarks.pairs import report

CELLS, CHANNELS, BLOCK = 49, 512, 100
FULL = 10_000


def forms(
    stored: torch.Tensor, columns: int, block: int
) -> dict[str, Callable[[torch.Tensor], object]]:
    """Return each way to multiply a block of cells, given as stored."""
    query = torch.randn(columns, CHANNELS)
    half, brain = query.half(), query.bfloat16()
    whole = (query * 30).round().clamp(-127, 127).to(torch.int8)
    wide = torch.empty(block, CHANNELS)
    short = torch.empty(block, CHANNELS, dtype=torch.bfloat16)
    linear = torch.nn.functional.linear
    return {
        "to float32": lambda cells: wide[: len(cells)].copy_(cells),
        "to float32, block @ q.T": lambda cells: wide[: len(cells)].copy_(cells) @ query.T,
        "to float32, q @ block.T": lambda cells: query @ wide[: len(cells)].copy_(cells).T,
        "float16 linear": lambda cells: linear(cells, half),
        "to bfloat16, linear": lambda cells: linear(short[: len(cells)].copy_(cells), brain),
        "resident bfloat16": lambda cells: linear(cells, brain),
        "resident int8": lambda cells: torch._int_mm(cells, whole.T),
        "resident int8, q @ block.T": lambda cells: torch._int_mm(whole, cells.T),
    }


def measure(images: int, columns: int) -> dict[str, object]:
    """Time all forms over the same images."""
    stored = torch.randn(images * CELLS, CHANNELS).clamp_(min=0).half()
    resident = {
        "resident bfloat16": stored.bfloat16(),
        "resident int8": (stored.float() * 30).round().clamp(-127, 127).to(torch.int8),
    }
    row: dict[str, object] = {"threads": torch.get_num_threads(), "columns": columns}
    words = stored.view(torch.int64)
    row["reading"] = _milliseconds(words.sum, images)
    for name, multiply in forms(stored, columns, BLOCK * CELLS).items():
        cells = resident.get(name.split(",")[0], stored)

        def run(cells: torch.Tensor = cells, multiply: Callable = multiply) -> None:
            for part in cells.split(BLOCK * CELLS):
                multiply(part)

        row[name] = _milliseconds(run, images)
    return row


def _milliseconds(run: Callable[[], object], images: int) -> float:
    run()
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e3 * FULL / images


def main() -> None:
    """Read the command line and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_000, help="timed, and scaled to 10,000")
    parser.add_argument("--searched", type=int, default=FULL, help="by the passes, not scaled")
    given = parser.parse_args()
    products, used = [], []
    before = torch.get_num_threads()
    for threads in sorted({1, before}):
        torch.set_num_threads(threads)
        with torch.inference_mode():
            products += [measure(given.images, columns) for columns in (9, 18, 900)]
        used += passes.measure(given.searched)
    report(products, None)
    report(used, None)


if __name__ == "__main__":
    main()
