"""The overlay of factor groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets

from vfs_ops.errors import QueryError
from vfs_ops.overlays.factors import Factors, Negative, factorise
from vfs_ops.overlays.mapped_images import MappedImages
from vfs_ops.widgets.bundle import bundle, stylesheet
from vfs_ops.widgets.colormaps import distinct_colours
from vfs_ops.widgets.figure_data import images_document, picture_blobs
from vfs_ops.widgets.overlay import Overlay


class FactorOverlay(Overlay):
    """Groups of cells, in colours over the images; hover a group to see its strength in all.

    The cells of all images are factorised together; see `vfs_ops.overlays.factors.factorise`. Each
    cell has the colour of its strongest group.

    Parameters
    ----------
    mapped
        Images with feature maps; see `vfs_ops.overlays.mapped_images`.
    groups
        How many.
    layer
        Which of the layers of `mapped`.
    negative
        What to do with negative values: ``refuse``, ``clip`` or ``split``.
    seed
        Of the factorisation.
    title
        Above the figure.
    **traits
        Attributes to begin with: `colormap`, `opacity`, `pinned`.

    Attributes
    ----------
    factors : Factors
        The groups themselves.
    pinned : int or None
        Number of the group whose strength is shown. May be set.

    Raises
    ------
    QueryError
        If the maps cannot be factorised so.
    """

    _esm = bundle("factor_overlay")
    _css = stylesheet("overlay", "factor_overlay")

    pinned = traitlets.Int(allow_none=True, default_value=None).tag(sync=True)

    def __init__(
        self,
        mapped: MappedImages,
        groups: int = 6,
        *,
        layer: int = 0,
        negative: Negative = "refuse",
        seed: int = 0,
        title: str = "",
        **traits: Any,
    ) -> None:
        if not 0 <= layer < len(mapped.layers):
            raise QueryError(f"layer {layer} is asked for; there are 0 to {len(mapped.layers) - 1}")
        chosen = MappedImages(mapped.pictures, mapped.labels, (mapped.layers[layer],))
        self.factors: Factors = factorise(
            chosen.layers[0].features, groups, negative=negative, seed=seed
        )
        strengths = np.stack(self.factors.strengths)
        largest = strengths.max(axis=(0, 1, 2))
        parts = np.divide(strengths, largest, out=np.zeros_like(strengths), where=largest > 0)
        totals = strengths.sum(axis=(0, 1, 2), dtype=np.float64)
        colours = distinct_colours(self.factors.count)
        document = {
            **images_document(chosen),
            "title": title,
            "groups": [
                {"label": f"Group {number}", "colour": colour, "share": float(share)}
                for number, (colour, share) in enumerate(
                    zip(colours, totals / totals.sum(), strict=True)
                )
            ],
            "explained": self.factors.explained,
            "converged": self.factors.converged,
        }
        blobs = {**picture_blobs(chosen), "strengths": parts.astype(np.float32).tobytes()}
        super().__init__(document, blobs, **traits)

    @traitlets.validate("pinned")
    def _check_pinned(self, proposal: Any) -> int | None:
        given: int | None = proposal["value"]
        if given is not None and not 0 <= given < self.factors.count:
            raise traitlets.TraitError(
                f"group {given} is pinned; expected None or 0 to {self.factors.count - 1}"
            )
        return given

    def _saved_traits(self) -> tuple[str, ...]:
        return (*super()._saved_traits(), "pinned")
