"""How features move with an image: cells followed through rotations, scalings, any transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vfs_ops.errors import QueryError
from vfs_ops.images.geometry import Frame
from vfs_ops.overlays.correspondence import Cell, cell_centre, cells_at
from vfs_ops.overlays.mapped_images import ImageLike, MapLayer, MappedImages, map_images, open_image
from vfs_ops.overlays.similarity import unit_vectors
from vfs_ops.overlays.transforms import Transform

if TYPE_CHECKING:
    from vfs_ops.models.extract import FeatureExtractor

INSIDE: Final = 0
"""The cell is still seen, and all of it is image."""
PADDING: Final = 1
"""It is seen, but lies on padding at least in part."""
LEFT: Final = 2
"""Its middle has left what the model sees."""

_SAMPLES: Final = 8  # points across a cell, along each axis
_WHOLE: Final = 0.99  # of a cell: above that it holds nothing but image


@dataclass(frozen=True, eq=False)
class LayerStudy:
    """Where the cells of one layer go; transforms come in the order of the study."""

    cells: NDArray[np.int32]
    """Shape (transform, y, x): number of the corresponding cell (row · columns + column) in the
    transformed image's map, -1 where it has left."""
    content: NDArray[np.float32]
    """Shape (transform, y, x): which part of each cell of the transformed image's own map shows
    the image rather than padding, in [0, 1]."""
    states: NDArray[np.uint8]
    """Shape (transform, y, x): `INSIDE`, `PADDING` or `LEFT`, per cell of the original image."""


@dataclass(frozen=True, eq=False)
class TransformMaps:
    """An image and its transforms, with feature maps and where each cell goes."""

    mapped: MappedImages
    """The original image first, then one image per transform."""
    transforms: tuple[Transform, ...]
    layers: tuple[LayerStudy, ...]
    """In the order of ``mapped.layers``."""

    def curve(self, cell: Cell, layer: int = 0) -> NDArray[np.float32]:
        """Return the cosine similarity of a cell to where it went, under each transform.

        Parameters
        ----------
        cell
            Row and column in the original image's map.
        layer
            Which of the layers.

        Returns
        -------
        numpy.ndarray
            float32 of shape (transform,); NaN where the cell has left.
        """
        track = self.mapped.layers[layer]
        original = unit_vectors(track.features[0][cell])
        curve = np.full(len(self.transforms), np.nan, np.float32)
        for number, place in enumerate(self.layers[layer].cells[:, cell[0], cell[1]].tolist()):
            if place >= 0:
                row, column = divmod(place, track.grid[1])
                moved = unit_vectors(track.features[number + 1][row, column])
                curve[number] = np.clip(original @ moved, -1, 1)
        return curve


def study_transforms(
    image: ImageLike,
    extractors: FeatureExtractor | Sequence[FeatureExtractor],
    transforms: Sequence[Transform],
) -> TransformMaps:
    """Compute the feature maps of an image under each transform, and follow its cells.

    A cell is followed by its middle: taken to the original image's pixels, through the transform,
    and to the cell of the transformed image's map that it falls into.

    Parameters
    ----------
    image
        A local file, its bytes, a Pillow image, or an array.
    extractors
        One or more, of one or more layers each.
    transforms
        As `vfs_ops.overlays.transforms.rotations` and `scalings` return, or your own.

    Raises
    ------
    ImageError
        If the image, or what a transform made of it, cannot be used.
    QueryError
        If there is no transform, or one returns no image, or no points.
    """
    chosen = list(transforms)
    if not chosen:
        raise QueryError("no transform is given; give one at least, as rotations([0, 90])")
    original = open_image(image)
    images = [original, *(_applied(transform, original) for transform in chosen)]
    labels = ["original", *(transform.label for transform in chosen)]
    mapped = map_images(images, extractors, labels)
    layers = tuple(_follow(layer, chosen) for layer in mapped.layers)
    return TransformMaps(mapped, tuple(chosen), layers)


def content_share(
    transform: Transform, size: tuple[int, int], frame: Frame, grid: tuple[int, int]
) -> NDArray[np.float32]:
    """Return which part of each cell of a transformed image shows the image, not padding.

    Parameters
    ----------
    transform
        What was done to the image.
    size
        Width and height of the original image.
    frame
        How the transformed image maps into the model's input.
    grid
        Rows and columns of the feature map.

    Returns
    -------
    numpy.ndarray
        float32 of shape `grid`, in steps of 1/64: the share of 8 × 8 points of each cell.
    """
    from matplotlib.path import Path

    x = _sample_points(frame.column_edges(grid[1]))
    y = _sample_points(frame.row_edges(grid[0]))
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    inside = Path(transform.border(size)).contains_points(points)
    inside &= ((points > 0) & (points < [frame.width, frame.height])).all(axis=1)
    blocks = inside.reshape(grid[0], _SAMPLES, grid[1], _SAMPLES)
    share: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return share


def _applied(transform: Transform, image: Image.Image) -> Image.Image:
    made = transform.apply(image.copy())
    if not isinstance(made, Image.Image):
        raise QueryError(
            f"transform {transform.label!r} returned {type(made).__name__}; expected a Pillow image"
        )
    return made


def _follow(layer: MapLayer, transforms: Sequence[Transform]) -> LayerStudy:
    grid, frame = layer.grid, layer.frames[0]
    size = frame.width, frame.height
    centres = np.array([cell_centre(cell, frame, grid) for cell in np.ndindex(*grid)])
    cells = np.empty((len(transforms), *grid), np.int32)
    content = np.empty((len(transforms), *grid), np.float32)
    states = np.empty((len(transforms), *grid), np.uint8)
    for number, transform in enumerate(transforms):
        moved_frame = layer.frames[number + 1]
        content[number] = content_share(transform, size, moved_frame, grid)
        found = cells_at(transform.at(centres, size), moved_frame, grid)
        whole = content[number].ravel()[found] > _WHOLE
        state = np.where(found < 0, LEFT, np.where(whole, INSIDE, PADDING))
        cells[number], states[number] = found.reshape(grid), state.reshape(grid)
    return LayerStudy(cells, content, states)


def _sample_points(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    return (edges[:-1, np.newaxis] + np.diff(edges)[:, np.newaxis] * steps).ravel()
