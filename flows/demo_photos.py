"""The demo's dataset: photos that scikit-image ships, cut at several scales into square tiles."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from PIL import Image

from vfs_ops.errors import MissingDependencyError
from vfs_ops.progress import Progress, ProgressCallback

PHOTOS: Final = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "horse.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
)
QUERY_PHOTO: Final = "motorcycle_right.png"
"""The same motorcycle from another place; it is not among the tiles."""
QUERY_BOX: Final = (452.0, 284.0, 589.0, 466.0)
"""Its front wheel: left, top, right, bottom in pixels."""
SCALES: Final = (1.0, 0.65, 0.42)
"""Sides of the tiles, as parts of the photo's shorter side."""


def photo_path(name: str) -> Path:
    """Return where a photo of scikit-image lies.

    Raises
    ------
    MissingDependencyError
        If scikit-image is not installed.
    """
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise MissingDependencyError(
            "the demo's photos are in scikit-image, which is not installed; "
            "pip install 'visual-feature-search[demo]'"
        )
    return Path(package.origin).parent / "data" / name


def tile_boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the boxes of a photo's tiles: squares of each scale that overlap by about a half.

    Yields
    ------
    left, top, right, bottom : int
        Pixels.
    """
    for scale in SCALES:
        side = round(min(width, height) * scale)
        for top in _starts(height, side):
            for left in _starts(width, side):
                yield left, top, left + side, top + side


def cut_tiles(folder: Path, progress: ProgressCallback) -> None:
    """Cut all photos into ``folder/<photo>/<number>.jpg``; tiles that are there stay."""
    for number, name in enumerate(PHOTOS):
        place = folder / Path(name).stem
        place.mkdir(parents=True, exist_ok=True)
        with Image.open(photo_path(name)) as photo:
            pixels = photo.convert("RGB")
        for tile, box in enumerate(tile_boxes(*pixels.size)):
            path = place / f"{tile:03d}.jpg"
            if not path.exists():
                unfinished = path.with_suffix(".part")
                pixels.crop(box).save(unfinished, "JPEG", quality=92)
                unfinished.replace(path)
        progress(Progress("cut", number + 1, len(PHOTOS), "photos"))


def _starts(length: int, side: int) -> list[int]:
    """Spread tiles of a side evenly over a length, each overlapping the next by half or more."""
    gaps = -(-2 * (length - side) // side)
    return [round(place * (length - side) / gaps) if gaps else 0 for place in range(gaps + 1)]
