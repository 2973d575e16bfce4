"""What was highlighted of an image, as it was given, so that it can be highlighted again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from vfs_ops.images.geometry import Downsample, PixelMask
from vfs_ops.images.masks import Polygons, pixel_mask


@dataclass(frozen=True, eq=False)
class Highlight:
    """Masks, boxes and polygons; together they are a union, and nothing is the whole image."""

    mask: NDArray[Any] | Image.Image | None = None
    """Of the image's size."""
    boxes: Sequence[Sequence[float]] | None = None
    """``(left, top, right, bottom)`` each, in pixels of the decoded, upright image."""
    polygon: Polygons | None = None
    downsample: Downsample = "bilinear"
    """How the mask becomes weights of cells; see `vfs_ops.images.geometry.mask_to_region`."""

    @property
    def whole(self) -> bool:
        """Whether nothing was chosen, which is the whole image."""
        return self.mask is None and self.boxes is None and self.polygon is None

    def drawn(self, width: int, height: int) -> PixelMask:
        """Draw it into one mask for an image of this size; see `vfs_ops.images.masks.pixel_mask`.

        Raises
        ------
        RegionError
            If it does not fit.
        """
        return pixel_mask(width, height, mask=self.mask, boxes=self.boxes, polygon=self.polygon)
