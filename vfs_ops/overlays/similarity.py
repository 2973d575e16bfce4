"""Cosine similarity of one cell to every cell of feature maps.

After the similarity overlays of Fong, Mordvintsev, Vedaldi and Olah, "Interactive Similarity
Overlays" (VISxAI 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vfs_ops.errors import QueryError
from vfs_ops.overlays.correspondence import Cell, corresponding_cell
from vfs_ops.overlays.mapped_images import MappedImages

Vectors = NDArray[np.float32]


def unit_vectors(features: NDArray[np.floating]) -> Vectors:
    """Scale feature vectors to length one.

    Parameters
    ----------
    features
        Finite numbers of shape (..., channel).

    Returns
    -------
    numpy.ndarray
        float32 of the same shape, C-contiguous. Norms are taken in float64; a vector of zeros
        stays zero, so that its similarity to anything is 0.

    Raises
    ------
    QueryError
        If a number is not finite.
    """
    exact = np.asarray(features, np.float64)
    norms = np.sqrt(np.einsum("...c,...c->...", exact, exact))
    if not np.isfinite(norms).all():
        raise QueryError(
            "the features hold NaN or infinite numbers; expected finite ones; compute them in "
            "float32, or choose another layer"
        )
    scale = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    return np.ascontiguousarray(exact * scale[..., np.newaxis], np.float32)


def cell_similarities(vector: NDArray[np.floating], units: Vectors) -> NDArray[np.float32]:
    """Return the cosine similarity of one unit vector to many.

    Parameters
    ----------
    vector
        Shape (channel,), as `unit_vectors` returns it.
    units
        float32 of shape (..., channel), from there too.

    Returns
    -------
    numpy.ndarray
        float32 of shape (...,), in [-1, 1]; 0 where either vector is zero.

    Raises
    ------
    QueryError
        If they have different numbers of channels.
    """
    if vector.shape != units.shape[-1:]:
        raise QueryError(
            f"a vector of shape {vector.shape} is compared with vectors of {units.shape[-1]} "
            "channels; compare cells of the same layer of the same model"
        )
    products: NDArray[np.float32] = units @ vector.astype(np.float32)
    return np.clip(products, -1, 1)


def similarity_maps(
    mapped: MappedImages, image: int, cell: Cell, layer: int = 0
) -> list[list[NDArray[np.float32]] | None]:
    """Return heatmaps of one cell over all images, in step in all layers.

    In the other layers and models the cell is the one at the same place of the same image; see
    `vfs_ops.overlays.correspondence.corresponding_cell`.

    Parameters
    ----------
    mapped
        Images with their feature maps.
    image
        Which of the images the cell is of.
    cell
        Its row and column in the grid of `layer`.
    layer
        Which of the layers the cell is of.

    Returns
    -------
    list
        Per layer one float32 array (y, x) per image, cosines in [-1, 1]; or None where that
        layer's model does not see the place of the cell.

    Raises
    ------
    QueryError
        If there is no such image, layer or cell.
    """
    cells = corresponding_cells(mapped, image, cell, layer)
    return [
        None
        if found is None
        else _maps_of(unit_vectors(track.features[image][found]), track.features)
        for found, track in zip(cells, mapped.layers, strict=True)
    ]


def corresponding_cells(
    mapped: MappedImages, image: int, cell: Cell, layer: int = 0
) -> list[Cell | None]:
    """Return, per layer, the cell at the place of one cell of one image.

    Raises
    ------
    QueryError
        If there is no such image, layer or cell.
    """
    if not 0 <= layer < len(mapped.layers):
        raise QueryError(f"layer {layer} is asked for; there are 0 to {len(mapped.layers) - 1}")
    if not 0 <= image < len(mapped.labels):
        raise QueryError(f"image {image} is asked for; there are 0 to {len(mapped.labels) - 1}")
    grid = mapped.layers[layer].grid
    if not (0 <= cell[0] < grid[0] and 0 <= cell[1] < grid[1]):
        raise QueryError(
            f"cell {tuple(cell)} is asked for; expected a row below {grid[0]} and a column below "
            f"{grid[1]}"
        )
    frame = mapped.layers[layer].frames[image]
    return [
        corresponding_cell(cell, frame, grid, other.frames[image], other.grid)
        if number != layer
        else (int(cell[0]), int(cell[1]))
        for number, other in enumerate(mapped.layers)
    ]


def _maps_of(
    vector: Vectors, features: Sequence[NDArray[np.floating]]
) -> list[NDArray[np.float32]]:
    return [cell_similarities(vector, unit_vectors(each)) for each in features]
