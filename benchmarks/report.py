"""Results of benchmarks: one table on the screen, one JSON file in ``benchmarks/results``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks import pairs

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Result:
    """One measurement: ours beside the peer's, if there is one, and the floor."""

    suite: str
    case: Mapping[str, object]
    """What was done, in words and numbers: columns of the table."""
    ours_s: float
    """Median seconds."""
    floor_s: float | None = None
    peer_s: float | None = None
    ratio: float | None = None
    """The peer's seconds over ours, or the floor's where there is no peer, median of the pairs."""
    ratio_min: float | None = None
    ratio_max: float | None = None
    pairs: int = 0
    notes: str = ""

    @classmethod
    def beside_floor(
        cls, suite: str, case: Mapping[str, object], made: pairs.Comparison, notes: str = ""
    ) -> Self:
        """Take pairs in which the peer is the floor."""
        found = made.summary()
        return cls(
            suite,
            case,
            ours_s=found["ours_seconds"],
            floor_s=found["peer_seconds"],
            ratio=found["ratio"],
            ratio_min=found["ratio_min"],
            ratio_max=found["ratio_max"],
            pairs=int(found["pairs"]),
            notes=notes,
        )

    def row(self) -> dict[str, object]:
        """Return the row of the table."""
        row: dict[str, object] = {"suite": self.suite, **self.case, "ours_s": self.ours_s}
        if self.floor_s is not None:
            row |= {"floor_s": self.floor_s, "to_floor": self.ours_s / self.floor_s}
        if self.peer_s is not None:
            row |= {"peer_s": self.peer_s, "times_as_fast": self.ratio}
            row |= {"min": self.ratio_min, "max": self.ratio_max}
        elif self.ratio is not None:
            row |= {"floor_over_ours": self.ratio, "min": self.ratio_min, "max": self.ratio_max}
        return row | {"pairs": self.pairs, "notes": self.notes}


def write(results: Sequence[Result], name: str, json_file: Path | None = None) -> None:
    """Print a table, and write it to ``benchmarks/results/<name>.json``, and where else is said."""
    pairs.report([result.row() for result in results], RESULTS / f"{name}.json")
    if json_file is not None:
        save(results, json_file)


def save(results: Sequence[Result], json_file: Path) -> None:
    """Write results to a file."""
    json_file.parent.mkdir(parents=True, exist_ok=True)
    rows = [result.row() for result in results]
    json_file.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
