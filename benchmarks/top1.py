"""Top-1 accuracy of a classifier through our own decoding, preprocessing and model loading.

    python benchmarks/top1.py --images DIR [--model efficientnet-lite0] [--limit N] [--json]

DIR holds photos and ``labels.csv`` with the columns ``file`` and ``imagenet_class`` (0 to 999).
Wrong preprocessing does not fail, it only makes features worse; this shows it. So the same model is
also run with the usual ImageNet mean and deviation in place of its own.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vfs_ops.errors import SourceError, VfsError
from vfs_ops.identity.preprocessing import Preprocessing
from vfs_ops.images.decoding import decode_image, fit
from vfs_ops.models.forward import run
from vfs_ops.models.loading import LoadedModel, load_model

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BATCH = 50


def read_labels(folder: Path, limit: int | None) -> list[tuple[Path, int]]:
    table = folder / "labels.csv"
    if not table.is_file():
        raise SourceError(f"there is no {table}; expected columns file and imagenet_class")
    with table.open(newline="", encoding="utf-8") as file:
        rows = [(folder / row["file"], int(row["imagenet_class"])) for row in csv.DictReader(file)]
    rows = rows[:limit]
    if not rows:
        raise SourceError(f"{table} gives no photos; expected one a row, and a limit above 0")
    return rows


def predictions(
    model: LoadedModel, rows: list[tuple[Path, int]], variants: list[Preprocessing]
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yield the true classes of a batch, and the predicted ones under each preprocessing."""
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        images = [decode_image(path.read_bytes()) for path, _ in batch]
        pixels = np.stack([fit(image, model.preprocessing) for image in images])
        found = [run(model.module, pixels, variant, {}).argmax(1).numpy() for variant in variants]
        yield np.array([label for _, label in batch]), found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder with labels.csv")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--limit", type=int, help="use only the first photos")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    try:
        rows = read_labels(options.images, options.limit)
        model = load_model(options.model)
    except VfsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    usual = dataclasses.replace(model.preprocessing, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    start, right = time.perf_counter(), np.zeros(2, np.int64)
    for labels, found in predictions(model, rows, [model.preprocessing, usual]):
        right += [int((classes == labels).sum()) for classes in found]
    seconds = time.perf_counter() - start
    own, other = (right / len(rows)).tolist()
    if options.json:
        print(
            json.dumps(
                {
                    "model": model.reference,
                    "weights": model.weights,
                    "fingerprint": model.fingerprint,
                    "images": len(rows),
                    "top1": own,
                    "top1_imagenet_normalisation": other,
                    "seconds": seconds,
                }
            )
        )
    else:
        print(f"{model.reference} ({model.weights}), {len(rows)} photos, {seconds:.0f} s")
        print(f"  {'own preprocessing':<38}{own:.3f}")
        print(f"  {'usual ImageNet mean and deviation':<38}{other:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
