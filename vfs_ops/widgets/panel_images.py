"""The images that a search panel starts from: given ones, through a model, or rows of a cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vfs_ops.caches.cache import Cache
from vfs_ops.errors import ExtractorMismatchError, QueryError
from vfs_ops.images.decoding import decode_image
from vfs_ops.images.geometry import Downsample
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.scans.queries import Query, query_from_image, query_from_row
from vfs_ops.widgets.pictures import Given, ImageLike, Pictures
from vfs_ops.widgets.remembering import RememberingExtractor


class PanelImages(Pictures):
    """Images with what makes queries from them.

    Parameters
    ----------
    caches
        What is searched, by name.
    images
        Any images; they need `extractors`.
    names
        One for each of `images`.
    extractors
        Those of the caches, in any order.
    rows
        Images of the caches' own dataset, which follow the others. Their previews are shown, and
        their features come from the caches: no model is needed.

    Raises
    ------
    QueryError
        If there is no image, or an image but no extractor.
    ExtractorMismatchError
        If no extractor is that of a cache.
    """

    def __init__(
        self,
        caches: Mapping[str, Cache],
        images: ImageLike | Sequence[ImageLike],
        names: Sequence[str] | None,
        extractors: FeatureExtractor | Sequence[FeatureExtractor],
        rows: Sequence[int],
    ) -> None:
        self._caches = caches
        several = isinstance(images, Sequence) and not isinstance(images, str | bytes)
        given: list[Any] = list(images) if several else [images]  # type: ignore[arg-type]
        every = [extractors] if isinstance(extractors, FeatureExtractor) else list(extractors)
        self._extractors = [RememberingExtractor(one) for one in every]
        if not caches:
            raise QueryError("there is no cache to search; give one at least")
        if not given and not len(rows):
            raise QueryError("there is no image to search for; give images=, or rows= of a cache")
        if given:
            for name, cache in caches.items():
                self.extractor_of(name, cache)
        self._rows: dict[int, tuple[Cache, int]] = {}
        first = next(iter(caches.values()))
        if names is not None and len(names) != len(given):
            raise QueryError(f"{len(names)} names for {len(given)} images; give one each")
        super().__init__([*given, *(_picture_of(first, int(row)) for row in rows)])
        if names is not None:
            self.names[: len(given)] = [str(one) for one in names]
        for number, row in enumerate(rows, start=len(given)):
            self._rows[number] = (first, int(row))
            self.names[number] = _name_of(first, int(row))

    def add_row(self, cache: Cache, row: int) -> int:
        """Add an image of a cache's dataset; return its number, the old one if it is there."""
        for number, (other, known) in self._rows.items():
            if known == row and other.dataset.images_id == cache.dataset.images_id:
                return number
        self._given.append(_picture_of(cache, row))
        self.names.append(_name_of(cache, row))
        self._rows[len(self) - 1] = (cache, row)
        return len(self) - 1

    def make_query(
        self, number: int, mask: NDArray[np.bool_], name: str, downsample: Downsample
    ) -> Query:
        """Make the query of an image's region for one cache.

        Raises
        ------
        QueryError
            If the image is a row of another dataset than the cache's.
        RegionError, ImageError
            If the region or the image cannot be used.
        """
        cache = self._caches[name]
        if number in self._rows:
            own, row = self._own_cache(number, name), self._rows[number][1]
            return query_from_row(own, row, mask=mask, downsample=downsample)
        extractor, layer = self.extractor_of(name, cache)
        return query_from_image(
            extractor,
            self.original(number),
            layer=extractor.infos[layer].name,
            mask=mask,
            downsample=downsample,
        )

    def features(self, number: int, name: str) -> NDArray[np.floating]:
        """Return the feature map of an image under the extractor of a cache, (y, x, channel)."""
        if number in self._rows:
            return self._own_cache(number, name).feature_map(self._rows[number][1])
        extractor, layer = self.extractor_of(name, self._caches[name])
        pixels = extractor.prepare(self.image(number))
        found: NDArray[np.floating] = extractor.features(pixels[np.newaxis])[layer][0]
        return found

    def extractor_of(self, name: str, cache: Cache) -> tuple[RememberingExtractor, int]:
        """Return the extractor of a cache, and which of its layers it is."""
        for extractor in self._extractors:
            number = extractor.layer_number(cache.spec.extractor.id)
            if number is not None:
                return extractor, number
        spec = cache.spec.extractor
        raise ExtractorMismatchError(
            f"no extractor given is that of cache {name!r} ({spec.model}, layer {spec.layer}); "
            "give it in extractor=, or start from images of the dataset with rows="
        )

    def _own_cache(self, number: int, name: str) -> Cache:
        own, row = self._rows[number]
        cache = self._caches[name]
        if cache.dataset.images_id != own.dataset.images_id:
            raise QueryError(
                f"image {row} is of dataset {own.dataset.id[:12]}, and {name} holds features of "
                f"{cache.dataset.id[:12]}; give the image itself in images="
            )
        return cache


def _picture_of(cache: Cache, row: int) -> ImageLike:
    """Return what opens the preview of a row, in the size of its image: masks are in its pixels."""

    def opened() -> Given:
        size = cache.dataset.rows([row], ["width", "height"]).to_pylist()[0]
        if size["width"] is None:
            raise QueryError(f"image {row} could not be read; choose another")
        preview = decode_image(cache.dataset.preview(row))
        return preview.resize((size["width"], size["height"]), Image.Resampling.BICUBIC)

    return opened


def _name_of(cache: Cache, row: int) -> str:
    found = cache.dataset.rows([row], ["uri", "label"]).to_pylist()[0]
    return str(found["label"] or found["uri"])
