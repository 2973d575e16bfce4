"""What overlays share, and the overlay of similarities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import traitlets
from numpy.typing import NDArray

from vfs_ops.errors import QueryError
from vfs_ops.overlays.correspondence import Cell
from vfs_ops.overlays.mapped_images import MappedImages
from vfs_ops.overlays.similarity import cell_similarities, corresponding_cells, unit_vectors
from vfs_ops.widgets.base import Answer, Handler, Widget
from vfs_ops.widgets.bundle import bundle, stylesheet
from vfs_ops.widgets.colormaps import COLORMAPS, encoded_tables
from vfs_ops.widgets.export import Reply, save_page
from vfs_ops.widgets.figure_data import cut_messages, images_document, picture_blobs

BROWSER_BYTES: Final = 64 << 20
"""Unit vectors above this stay with Python, which then takes the dot products."""
EXPORT_BYTES: Final = 256 << 20
"""Data above this is not written into one HTML file."""

Compute = Literal["browser", "python"]


class Overlay(Widget):
    """A figure whose data is sent once: subclasses give a document and named blobs.

    Attributes
    ----------
    colormap : str
        One of `vfs_ops.widgets.colormaps.COLORMAPS`.
    scale : {"fixed", "auto"}
        Whether colours stand for `limits`, or for what is shown, smallest to largest.
    limits : tuple of float
        What the ends of the colours stand for under the fixed scale.
    opacity : float
        Of the heatmaps, in [0, 1].
    """

    figure = traitlets.Dict().tag(sync=True)
    colormaps = traitlets.Dict().tag(sync=True)
    colormap = traitlets.Enum(COLORMAPS, COLORMAPS[0]).tag(sync=True)
    scale = traitlets.Enum(("fixed", "auto"), "fixed").tag(sync=True)
    limits = traitlets.Tuple(traitlets.CFloat(), traitlets.CFloat(), default_value=(0.0, 1.0)).tag(
        sync=True
    )
    opacity = traitlets.CFloat(0.65, min=0, max=1).tag(sync=True)

    def __init__(
        self, document: Mapping[str, Any], blobs: Mapping[str, bytes], **traits: Any
    ) -> None:
        self._messages = cut_messages(blobs)
        figure = {
            **document,
            "messages": len(self._messages),
            "bytes": sum(map(len, blobs.values())),
        }
        super().__init__(figure=figure, colormaps=encoded_tables(), **traits)

    def handlers(self) -> dict[str, Handler]:
        """Answer ``data`` with one of the messages that the figure's data was cut into."""
        return {**super().handlers(), "data": self._data}

    def save_html(self, path: str | Path, title: str | None = None) -> Path:
        """Save the overlay, as it stands, as one HTML file that works from disk without a network.

        Parameters
        ----------
        path
            Where to; a file that is there is replaced, once the new one is whole.
        title
            Of the page; the overlay's own if None.

        Returns
        -------
        pathlib.Path
            Where it is.

        Raises
        ------
        QueryError
            If its data exceeds `EXPORT_BYTES`.
        StorageError
            If it cannot be written.
        """
        document, messages = self._saved_figure()
        size = document["bytes"]
        if size > EXPORT_BYTES:
            raise QueryError(
                f"the figure holds {size >> 20} MiB; expected at most {EXPORT_BYTES >> 20} MiB in "
                "one HTML file; take fewer images, or a layer with fewer cells"
            )
        state = {name: getattr(self, name) for name in self._saved_traits()}
        return save_page(
            path,
            title=title or str(self.figure.get("title") or type(self).__name__),
            module=str(self._esm),
            css=str(self._css),
            state={**state, "figure": document},
            replies=[
                Reply("data", {"number": number}, message)
                for number, message in enumerate(messages)
            ],
        )

    def _saved_traits(self) -> tuple[str, ...]:
        return ("colormaps", "colormap", "scale", "limits", "opacity")

    def _saved_figure(self) -> tuple[dict[str, Any], Sequence[Answer]]:
        return dict(self.figure), self._messages

    def _data(self, value: dict[str, Any], buffers: list[memoryview]) -> Answer:
        return self._messages[int(value["number"])]


class CellOverlay(Overlay):
    """An overlay that shows the similarities of one cell, which may be pinned.

    Attributes
    ----------
    pinned : dict or None
        ``layer`` and ``image`` by number, ``row`` and ``column`` of the pinned cell. May be set.
    """

    pinned = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)

    def __init__(
        self,
        mapped: MappedImages,
        extra: Mapping[str, Any],
        blobs: Mapping[str, bytes],
        *,
        title: str,
        compute: Compute | None,
        **traits: Any,
    ) -> None:
        self.mapped = mapped
        units = [
            np.stack([unit_vectors(features) for features in layer.features])
            for layer in mapped.layers
        ]
        self._units = units
        size = sum(each.nbytes for each in units)
        if compute is None:
            compute = "browser" if size <= BROWSER_BYTES else "python"
        if compute not in ("browser", "python"):
            raise QueryError(f"compute is {compute!r}; expected 'browser', 'python' or None")
        self._rest = {**picture_blobs(mapped), **blobs}
        document = {**images_document(mapped), **extra, "title": title, "compute": compute}
        sent = self._vectors() if compute == "browser" else {}
        super().__init__(document, {**self._rest, **sent}, **traits)

    def handlers(self) -> dict[str, Handler]:
        """Answer ``similarities`` too, where Python takes the dot products."""
        return {**super().handlers(), "similarities": self._similarities}

    def similarities(
        self, image: int, cell: Cell, layer: int = 0
    ) -> list[NDArray[np.float32] | None]:
        """Return what the overlay shows for a cell, as the browser computes it.

        Returns
        -------
        list
            Per layer float32 (image, y, x), cosines in [-1, 1]; None where that layer's model
            does not see the place.

        Raises
        ------
        QueryError
            If there is no such image, layer or cell.
        """
        cells = corresponding_cells(self.mapped, image, cell, layer)
        return [
            None if found is None else cell_similarities(units[image][found], units)
            for found, units in zip(cells, self._units, strict=True)
        ]

    @traitlets.validate("pinned")
    def _check_pinned(self, proposal: Any) -> dict[str, int] | None:
        given = proposal["value"]
        if given is None:
            return None
        names = ("layer", "image", "row", "column")
        if set(given) != set(names) or not all(type(given[name]) is int for name in names):
            raise traitlets.TraitError(
                f"pinned is {given}; expected None or numbers named {', '.join(names)}"
            )
        try:
            corresponding_cells(
                self.mapped, given["image"], (given["row"], given["column"]), given["layer"]
            )
        except QueryError as error:
            raise traitlets.TraitError(str(error)) from error
        return {name: given[name] for name in names}

    def _similarities(self, value: dict[str, Any], buffers: list[memoryview]) -> Answer:
        image = int(value["image"])
        found = []
        for number, units in zip(value["cells"], self._units, strict=True):
            if number < 0:
                found.append(b"")
                continue
            cell = divmod(int(number), units.shape[2])
            found.append(cell_similarities(units[image][cell], units).tobytes())
        return Answer({}, found)

    def _vectors(self) -> dict[str, bytes]:
        return {f"vectors/{number}": each.tobytes() for number, each in enumerate(self._units)}

    def _saved_traits(self) -> tuple[str, ...]:
        return (*super()._saved_traits(), "pinned")

    def _saved_figure(self) -> tuple[dict[str, Any], Sequence[Answer]]:
        if self.figure["compute"] == "browser":
            return super()._saved_figure()
        size = sum(map(len, self._rest.values())) + sum(each.nbytes for each in self._units)
        document = {**self.figure, "compute": "browser", "bytes": size}
        if size > EXPORT_BYTES:
            return document, ()
        messages = cut_messages({**self._rest, **self._vectors()})
        return {**document, "messages": len(messages)}, messages


class SimilarityOverlay(CellOverlay):
    """Hover a cell, and see what is similar to it: in all images, and at all layers in step.

    Hover, focus and arrow keys, or touch choose a cell; a click, a tap or Enter pins it, and then
    the value under the pointer can be read. Similarities are cosines in float32. In other layers
    and models the cell is the one at the same place of the image.

    Parameters
    ----------
    mapped
        Images with feature maps; see `vfs_ops.overlays.mapped_images`.
    title
        Above the figure.
    compute
        Where dot products are taken: in the ``browser``, to which all unit vectors are sent once,
        or by ``python`` at each move. By default in the browser up to `BROWSER_BYTES`.
    **traits
        Attributes to begin with: `colormap`, `scale`, `limits`, `opacity`, `pinned`.

    Examples
    --------
    >>> mapped = vfs_ops.map_images(["cat.jpg", "dog.jpg"], extractor)  # doctest: +SKIP
    >>> SimilarityOverlay(mapped)  # doctest: +SKIP
    """

    _esm = bundle("similarity_overlay")
    _css = stylesheet("overlay")

    def __init__(
        self,
        mapped: MappedImages,
        *,
        title: str = "",
        compute: Compute | None = None,
        **traits: Any,
    ) -> None:
        super().__init__(mapped, {}, {}, title=title, compute=compute, **traits)
