"""Small files that sources of images are made of, and what sources list."""

import io
from pathlib import Path

from PIL import Image

from vfs_ops.datasets.sources import Listing


def picture(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (3, 2), shade).save(buffer, "PNG")
    return buffer.getvalue()


def write(root: Path, *names: str) -> Path:
    for shade, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(shade))
    return root


def uris(listing: Listing) -> list[str]:
    return listing.table["uri"].to_pylist()


def labels(listing: Listing) -> list[str | None]:
    return listing.table["label"].to_pylist()
