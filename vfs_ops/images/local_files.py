"""Image files of this machine, as people name them: what is wrong with one is told by its name."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from vfs_ops.errors import ImageError, NotFoundError
from vfs_ops.images.decoding import decode_image
from vfs_ops.store.failures import storage_errors


def open_file(path: str | Path) -> tuple[bytes, Image.Image]:
    """Read and decode an image file; see `vfs_ops.images.decoding.decode_image`.

    Parameters
    ----------
    path
        May begin with ``~``.

    Returns
    -------
    tuple
        The bytes of the file, and the image.

    Raises
    ------
    NotFoundError
        If there is no such file.
    AccessError, StorageError
        If it cannot be read.
    ImageError
        If it cannot be decoded.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise NotFoundError(f"there is no image file {path}; check the path")
    with storage_errors(f"image {path}"):
        data = path.read_bytes()
    try:
        return data, decode_image(data)
    except ImageError as error:
        raise ImageError(f"image {path}: {error}") from error
