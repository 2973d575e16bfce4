"""Interleaved A/B pairs: what every timing here is made of."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Comparison:
    """Seconds of two ways of doing the same, run in turns."""

    ours: tuple[float, ...]
    peer: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """The peer's seconds over ours, pair by pair: above 1 we are faster."""
        return [peer / ours for ours, peer in zip(self.ours, self.peer, strict=True)]

    def summary(self) -> dict[str, float]:
        """Return medians, and the spread of the paired ratios."""
        return {
            "ours_seconds": statistics.median(self.ours),
            "peer_seconds": statistics.median(self.peer),
            "ratio": statistics.median(self.ratios),
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "pairs": len(self.ours),
        }


def compare(ours: Callable[[], object], peer: Callable[[], object], pairs: int = 5) -> Comparison:
    """Run both once unmeasured, then in turns, `pairs` times each."""
    ours()
    peer()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(pairs):
        for run, seconds in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return Comparison(tuple(times[0]), tuple(times[1]))


def report(rows: Sequence[Mapping[str, object]], json_file: Path | None) -> None:
    """Print rows as a table, and write them as JSON if asked to."""
    headings = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_shown(row.get(heading, "")) for heading in headings] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    for line in [headings, *cells]:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(rows, indent=2) + "\n")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
