"""The overlay of an image under transforms, with its chart."""

from __future__ import annotations

from typing import Any

import numpy as np

from vfs_ops.overlays.transform_study import TransformMaps
from vfs_ops.widgets.bundle import bundle, stylesheet
from vfs_ops.widgets.overlay import CellOverlay, Compute


class TransformStudy(CellOverlay):
    """An image under transforms: a cell is followed through all of them.

    The heatmaps show the similarity of the chosen cell of the original image to all cells of its
    transforms; outlined is where the cell went. The chart shows its similarity to that cell,
    against the transform's parameter: hollow points lie on padding at least in part, crosses have
    left what the model sees.

    Parameters
    ----------
    study
        As `vfs_ops.overlays.transform_study.study_transforms` returns it.
    axis
        What the transforms' parameter is, as "angle (degrees)".
    title, compute, **traits
        See `SimilarityOverlay`.

    Examples
    --------
    >>> study = study_transforms("cat.jpg", extractor, rotations([0, 45, 90]))  # doctest: +SKIP
    >>> TransformStudy(study, axis="angle (degrees)")  # doctest: +SKIP
    """

    _esm = bundle("transform_study")
    _css = stylesheet("overlay", "transform_study")

    def __init__(
        self,
        study: TransformMaps,
        *,
        axis: str = "parameter",
        title: str = "",
        compute: Compute | None = None,
        **traits: Any,
    ) -> None:
        self.study = study
        extra = {
            "axis": axis,
            "parameters": [transform.parameter for transform in study.transforms],
        }
        blobs: dict[str, bytes] = {}
        for number, layer in enumerate(study.layers):
            blobs[f"cells/{number}"] = layer.cells.astype("<i4").tobytes()
            blobs[f"states/{number}"] = layer.states.tobytes()
            padding = np.rint(255 * (1 - layer.content)).astype(np.uint8)
            blobs[f"padding/{number}"] = padding.tobytes()
        super().__init__(study.mapped, extra, blobs, title=title, compute=compute, **traits)
