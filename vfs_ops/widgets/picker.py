"""RegionPicker: highlight a region of an image with brush, lasso, keyboard or similar cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
from numpy.typing import NDArray
from PIL import Image

from vfs_ops.errors import QueryError, RegionError
from vfs_ops.images.masks import pixel_mask
from vfs_ops.widgets.base import Answer, Handler, Widget
from vfs_ops.widgets.bundle import bundle, stylesheet
from vfs_ops.widgets.cells import Cells
from vfs_ops.widgets.pictures import SHOWN_SIDE, THUMBNAIL_SIDE, Given, ImageLike, Pictures, as_jpeg
from vfs_ops.widgets.run_lengths import decode_runs, encode_runs

PixelMask = NDArray[np.bool_]
FeatureMaps = Callable[[int], NDArray[np.floating]]
"""Number of an image → its feature map (y, x, channel)."""


class RegionPicker(Widget):
    """Highlight a region of one image, or of one of several.

    Each image keeps a mask of its own. ``picker.mask`` is that of the image shown, and changes
    while it is painted; it may be set. ``picker.revision`` is a trait that counts finished strokes.

    Parameters
    ----------
    images
        One image or several: local files, bytes, Pillow images, arrays, or functions that return
        one of these, which are called when the image is chosen.
    names
        Of the images, to be read.
    cells
        The cells of the layer that is to be searched, or of several by name. With them the picker
        shows the weights that the search uses.
    features
        Number of an image → its feature map (y, x, channel) on the cells, or a mapping of such
        functions by name; with it the picker fills connected cells of similar features.
    mask
        What is highlighted at first, on the first image: see `vfs_ops.images.masks.pixel_mask`.

    Examples
    --------
    >>> picker = RegionPicker("bird.jpg", cells=Cells.of(cache))  # doctest: +SKIP
    >>> query = query_from_image(extractor, picker.original, mask=picker.mask)  # doctest: +SKIP
    """

    _esm = bundle("picker_widget")
    _css = stylesheet("picker")

    revision = traitlets.Int(0, help="Grows with each finished change of a mask.")

    def __init__(
        self,
        images: ImageLike | Sequence[ImageLike] | Pictures,
        *,
        names: Sequence[str] | None = None,
        cells: Cells | Mapping[str, Cells] | None = None,
        features: FeatureMaps | Mapping[str, FeatureMaps] | None = None,
        mask: NDArray[Any] | Image.Image | None = None,
        **traits: Any,
    ) -> None:
        self._pictures = images if isinstance(images, Pictures) else Pictures(images, names)
        self._cells: dict[str, Cells] = _by_name(cells)
        self._features: dict[str, FeatureMaps] = _by_name(features)
        unknown = self._features.keys() - self._cells.keys()
        if unknown:
            raise QueryError(
                f"features of {sorted(unknown)} have no cells; give cells of the same names"
            )
        self._masks: dict[int, PixelMask] = {}
        self._number = 0
        super().__init__(**traits)
        if mask is not None:
            self.mask = mask

    @property
    def number(self) -> int:
        """Which image is shown, from 0; may be set."""
        return self._number

    @number.setter
    def number(self, number: int) -> None:
        self._pictures.image(number)
        with self._lock:
            self._number = number
            self.notify("image", {"number": number})

    @property
    def image(self) -> Image.Image:
        """The image shown, decoded and upright."""
        return self._pictures.image(self._number)

    @property
    def original(self) -> Given:
        """The image shown as it was given, files as bytes: what `query_from_image` takes."""
        return self._pictures.original(self._number)

    @property
    def mask(self) -> PixelMask:
        """What is highlighted: bool (height, width) of the image shown, read-only; may be set."""
        return self._mask_of(self._number)

    @mask.setter
    def mask(self, mask: NDArray[Any] | Image.Image | None) -> None:
        with self._lock:
            width, height = self.image.size
            if mask is None:
                drawn = np.zeros((height, width), np.bool_)
            else:
                drawn = pixel_mask(width, height, mask=mask) >= 128
            self._keep(self._number, drawn)
            self._tell_mask(self._number, drawn, self._weighed(drawn), view=None)

    def weights(self, name: str | None = None) -> NDArray[np.float32]:
        """Return the weights of the cells under the mask, float32 (rows, columns).

        Parameters
        ----------
        name
            Which cells, if there are several.

        Raises
        ------
        RegionError
            If nothing is highlighted, or too little of any cell.
        """
        return self._cells_of(name).weights(self.mask)

    def handlers(self) -> dict[str, Handler]:
        """Return what answers the browser."""
        return super().handlers() | {
            "state": self._answer_state,
            "image": self._answer_image,
            "thumbnail": self._answer_thumbnail,
            "mask": self._answer_mask,
            "similar": self._answer_similar,
        }

    def _answer_state(self, value: dict[str, Any], buffers: Any) -> Answer:
        return Answer(
            {
                "names": self._pictures.names,
                "image": self._number,
                "grids": list(self._cells),
                "fills": list(self._features),
            }
        )

    def _answer_image(self, value: dict[str, Any], buffers: Any) -> Answer:
        number = int(value["number"])
        answer = self._shown(number)
        self._number = number
        return answer

    def _shown(self, number: int, mask: PixelMask | None = None) -> Answer:
        image = self._pictures.image(number)
        cells = {}
        for name, grid in self._cells.items():
            x, y = grid.edges(*image.size)
            cells[name] = {"x": x, "y": y}
        shown = {
            "name": self._pictures.names[number],
            "width": image.width,
            "height": image.height,
            "type": "image/jpeg",
            "cells": cells,
        }
        mask = self._mask_of(number) if mask is None else mask
        weighed = self._weighed(mask)
        buffers = [as_jpeg(image, SHOWN_SIDE), encode_runs(mask), *weighed.buffers]
        return Answer({**shown, **weighed.value}, buffers)

    def _answer_thumbnail(self, value: dict[str, Any], buffers: Any) -> Answer:
        image = self._pictures.image(int(value["number"]))
        return Answer(buffers=[as_jpeg(image, THUMBNAIL_SIDE)])

    def _answer_mask(self, value: dict[str, Any], buffers: Sequence[memoryview]) -> Answer:
        number = int(value["number"])
        image = self._pictures.image(number)
        drawn = decode_runs(buffers[0], image.width, image.height)
        self._keep(number, drawn)
        answer = self._weighed(drawn)
        if value["done"]:
            self._tell_mask(number, drawn, answer, value["view"])
        return answer

    def _answer_similar(self, value: dict[str, Any], buffers: Any) -> Answer:
        maps = self._features[value["grid"]](int(value["number"])).astype(np.float32)
        norms = np.linalg.norm(maps, axis=-1, keepdims=True)
        units = np.divide(maps, norms, out=np.zeros_like(maps), where=norms > 0)
        similarity = units @ units[int(value["row"]), int(value["column"])]
        return Answer(buffers=[np.ascontiguousarray(similarity, "<f4").tobytes()])

    def _tell_mask(self, number: int, mask: PixelMask, weighed: Answer, view: str | None) -> None:
        """Tell all views of a finished change, which one of them made or Python."""
        told = {"number": number, "view": view, **weighed.value}
        self.notify("mask", told, [encode_runs(mask), *weighed.buffers])
        self.revision += 1

    def _mask_of(self, number: int) -> PixelMask:
        if number not in self._masks:
            width, height = self._pictures.image(number).size
            blank = np.zeros((height, width), np.bool_)
            blank.setflags(write=False)
            self._masks.setdefault(number, blank)  # one may have been drawn meanwhile
        return self._masks[number]

    def _keep(self, number: int, mask: PixelMask) -> None:
        mask.setflags(write=False)
        self._masks[number] = mask

    def _cells_of(self, name: str | None) -> Cells:
        if name is None and len(self._cells) == 1:
            return next(iter(self._cells.values()))
        if name not in self._cells:
            known = ", ".join(self._cells) or "none were given"
            raise QueryError(f"no cells {name!r}; expected one of: {known}")
        return self._cells[name]

    def _weighed(self, mask: PixelMask) -> Answer:
        """Return the weights on each grid, in 255ths, and why there are none."""
        names, weights, note = [], [], ""
        for name, cells in self._cells.items() if mask.any() else ():
            try:
                weighed = cells.weights(mask)
            except RegionError as error:
                note = str(error)
                continue
            names.append(name)
            weights.append(np.rint(weighed * 255).astype(np.uint8).tobytes())
        return Answer({"weights": names, "note": note}, weights)


def _by_name(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    return dict(given) if isinstance(given, Mapping) else {"cells": given}
