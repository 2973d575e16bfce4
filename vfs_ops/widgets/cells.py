"""The cells of a feature map over an image: where they lie, and what a mask weighs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vfs_ops.identity.preprocessing import Preprocessing
from vfs_ops.images.geometry import Downsample, Frame, mask_to_region


class _Spec(Protocol):
    @property
    def preprocessing(self) -> Preprocessing: ...


class _CacheSpec(Protocol):
    @property
    def extractor(self) -> _Spec: ...


class HasCells(Protocol):
    """What a cache tells of its cells."""

    @property
    def spec(self) -> _CacheSpec:
        """Its identity, with the preprocessing."""
        ...

    @property
    def grid(self) -> tuple[int, int]:
        """Cells along y and x."""
        ...


@dataclass(frozen=True)
class Cells:
    """How images are cut into the cells of a layer."""

    preprocessing: Preprocessing
    grid: tuple[int, int]
    """Rows and columns."""
    downsample: Downsample = "bilinear"
    """How a mask becomes weights; see `vfs_ops.images.geometry.mask_to_region`."""

    @classmethod
    def of(cls, cache: HasCells, downsample: Downsample = "bilinear") -> Cells:
        """Return the cells of a cache."""
        return cls(cache.spec.extractor.preprocessing, cache.grid, downsample)

    def edges(self, width: int, height: int) -> tuple[list[float], list[float]]:
        """Return x and y of the lines between the cells, in pixels of an image of that size."""
        frame = Frame.of(width, height, self.preprocessing)
        rows, columns = self.grid
        return frame.column_edges(columns).tolist(), frame.row_edges(rows).tolist()

    def weights(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the weights that a search uses, on the whole grid.

        Parameters
        ----------
        mask
            Bool ``(height, width)`` of the image.

        Returns
        -------
        ndarray
            Float32 ``(rows, columns)``, multiples of 1/255.

        Raises
        ------
        RegionError
            If the mask is empty, or covers too little of any cell.
        """
        drawn = np.where(mask, np.uint8(255), np.uint8(0))
        region = mask_to_region(drawn, self.preprocessing, self.grid, self.downsample)
        weights = np.zeros(self.grid, np.float32)
        rows = slice(region.top, region.top + region.high)
        weights[rows, region.left : region.left + region.wide] = region.weights
        return weights
