"""Queries: a region of an image and the features under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vfs_ops.caches.cache import Cache
from vfs_ops.datasets.same_images import rows_of
from vfs_ops.errors import ExtractorMismatchError, QueryError
from vfs_ops.identity.document_differences import differences
from vfs_ops.identity.preprocessing import Preprocessing
from vfs_ops.identity.spec import CachePrecision, ExtractorSpec, lowest_precision
from vfs_ops.images.geometry import Downsample, Frame, Region, mask_to_region
from vfs_ops.images.masks import Polygons
from vfs_ops.kernel.exact import Pattern
from vfs_ops.scans.highlights import Highlight
from vfs_ops.scans.pictures import Picture, picture_of, preview_of
from vfs_ops.scans.query_inputs import layer_number, opened, probe_of, visible_part
from vfs_ops.scans.query_recipes import QueryRecipe, parse_recipe

if TYPE_CHECKING:
    from vfs_ops.models.extract import FeatureExtractor


@dataclass(frozen=True, eq=False, repr=False)
class Query:
    """A region and the feature vectors under it; made by `query_from_image` or `query_from_row`."""

    region: Region
    features: NDArray[np.float32]
    """Shape (region.high, region.wide, channel)."""
    pattern: Pattern
    """The same, made ready for scoring."""
    extractor: ExtractorSpec
    """What made the features."""
    precision: CachePrecision
    """Precision in which they were computed."""
    probe: NDArray[np.float32] | None
    """Feature map of the probe image by the extractor in hand; None if the features come from a
    cache, so that no model is involved."""
    digest: bytes | None
    """Content digest of the image, by which its own rows are left out of a search."""
    picture: Picture
    highlight: Highlight
    """What was highlighted, as it was given."""
    visible: float
    """Which part of the highlighted pixels the model sees, in (0, 1]; a centre crop may leave out
    the rest, which is then not searched for."""

    def __repr__(self) -> str:
        seen = "" if self.visible == 1 else f", {self.visible:.0%} of the highlighted part visible"
        return (
            f"<Query: {self.region.high}×{self.region.wide} cells, {self.extractor.model} "
            f"{self.extractor.layer}{seen}>"
        )

    @classmethod
    def from_recipe(
        cls,
        recipe: str | bytes | QueryRecipe,
        cache: Cache,
        *,
        image: str | Path | bytes | Image.Image | NDArray[Any] | None = None,
        extractor: FeatureExtractor | None = None,
    ) -> Query:
        """Make a query again that a recipe describes; see `vfs_ops.scans.query_recipes`.

        Parameters
        ----------
        recipe
            Its text, which may come from anybody.
        cache
            Of the recipe's extractor.
        image, extractor
            What the query was made of, if the cache's dataset does not hold the image.

        Raises
        ------
        QueryError
            If the recipe is malformed, or no image, or another one, is at hand.
        ExtractorMismatchError
            If the recipe belongs to another extractor than the cache.
        """
        made = recipe if isinstance(recipe, QueryRecipe) else parse_recipe(recipe)
        if made.extractor != cache.spec.extractor.id:
            raise ExtractorMismatchError(
                f"the recipe is for extractor {made.extractor[:12]}, and cache {cache.id[:12]} is "
                f"of {cache.spec.extractor.id[:12]}; choose the cache that it was saved from"
            )
        if image is None:
            [rows] = rows_of(cache.dataset, [bytes.fromhex(made.digest)])
            if not len(rows):
                raise QueryError(
                    f"the image of the recipe (SHA-256 {made.digest[:12]}…) is not in dataset "
                    f"{cache.dataset.id[:12]}; give it in image=, and the cache's extractor"
                )
            return query_from_row(cache, rows[0], mask=made.mask, downsample=made.downsample)
        if extractor is None:
            raise QueryError("an image is given without extractor=; give the cache's own")
        digest = opened(image)[1].hex()
        if digest != made.digest:
            raise QueryError(
                f"the image given has SHA-256 {digest[:12]}…, and the recipe is for "
                f"{made.digest[:12]}…; give the file that the query was made of"
            )
        number = [spec.id for spec in extractor.specs].index(made.extractor)
        layer = extractor.infos[number].name
        return query_from_image(
            extractor, image, layer=layer, mask=made.mask, downsample=made.downsample
        )

    def to_recipe(self) -> QueryRecipe:
        """Return the small document that makes this query again; ``.to_json()`` writes it.

        Raises
        ------
        QueryError
            If the query has no image of its own to name.
        """
        if self.digest is None:
            raise QueryError("this query names no image, so no recipe can; make it from an image")
        width, height = self.picture.frame.width, self.picture.frame.height
        return QueryRecipe.of(
            self.extractor.id,
            self.digest,
            self.highlight.drawn(width, height),
            self.highlight.downsample,
        )

    def check_matches(self, cache: Cache) -> None:
        """Refuse a cache of another extractor.

        Raises
        ------
        ExtractorMismatchError
            If the extractor or its probe differs; the message names what does.
        """
        what = f"the query and cache {cache.id[:12]}"
        if self.extractor.id != cache.spec.extractor.id:
            ours, theirs = self.extractor.document(), cache.spec.extractor.document()
            raise ExtractorMismatchError(
                f"{what} have different extractors: {'; '.join(differences(ours, theirs))}; "
                "make the query with the cache's own extractor, or build a cache with the query's"
            )
        if self.probe is not None:
            from vfs_ops.models.probe import check_probe

            lowest = lowest_precision(self.precision, cache.spec.precision)
            check_probe(cache.probe, self.probe, what, lowest)


def query_from_image(
    extractor: FeatureExtractor,
    image: str | Path | bytes | Image.Image | NDArray[Any],
    *,
    layer: str | None = None,
    mask: NDArray[Any] | Image.Image | None = None,
    boxes: Sequence[Sequence[float]] | None = None,
    polygon: Polygons | None = None,
    downsample: Downsample = "bilinear",
) -> Query:
    """Make a query from any image.

    Parameters
    ----------
    extractor
        The cache's own: the same model, weights, layer and preprocessing.
    image
        A local file, its bytes, a Pillow image, or an array; see `vfs_ops.images.decoding`.
    layer
        Which of the extractor's layers; needed if it has several.
    mask, boxes, polygon
        The highlighted region, in pixels of the decoded, upright image; see
        `vfs_ops.images.masks.pixel_mask`. The whole image if none is given.
    downsample
        How the mask becomes weights of cells; see `vfs_ops.images.geometry.mask_to_region`.

    Warns
    -----
    RegionCroppedWarning
        If the preprocessing crops away more than half of what is highlighted.

    Raises
    ------
    ImageError
        If the image cannot be decoded.
    RegionError
        If the region selects nothing or does not fit the image.
    QueryError
        If the layer is not clear, or all features under the region are zero.

    Examples
    --------
    >>> beak = [(40, 10, 200, 180)]
    >>> query = query_from_image(extractor, "bird.jpg", boxes=beak)  # doctest: +SKIP
    """
    number = layer_number(extractor, layer)
    decoded, digest = opened(image)
    highlight = Highlight(mask, boxes, polygon, downsample)
    drawn = highlight.drawn(*decoded.size)
    region = mask_to_region(
        drawn, extractor.preprocessing, extractor.infos[number].grid, downsample
    )
    frame = Frame.of(*decoded.size, extractor.preprocessing)
    features = extractor.features(extractor.prepare(decoded)[np.newaxis])[number][0]
    return _query(
        region,
        features,
        extractor=extractor.specs[number],
        precision=extractor.precision,
        probe=probe_of(extractor)[number],
        digest=digest,
        picture=picture_of(decoded, drawn, frame),
        highlight=highlight,
        visible=visible_part(drawn, frame, whole=highlight.whole),
    )


def query_from_row(
    cache: Cache,
    row: int,
    *,
    mask: NDArray[Any] | Image.Image | None = None,
    boxes: Sequence[Sequence[float]] | None = None,
    polygon: Polygons | None = None,
    downsample: Downsample = "bilinear",
) -> Query:
    """Make a query from an image of the dataset itself; its features come from the cache.

    Parameters
    ----------
    cache
        Where the features are.
    row
        Number of the image.
    mask, boxes, polygon, downsample
        See `query_from_image`.

    Warns
    -----
    RegionCroppedWarning
        If the preprocessing crops away more than half of what is highlighted.

    Raises
    ------
    QueryError
        If there is no such row, it could not be read when the cache was built, or all features
        under the region are zero.
    RegionError
        If the region selects nothing or does not fit the image.
    """
    if isinstance(row, bool) or not isinstance(row, int | np.integer):
        raise QueryError(f"row is {repr(row)[:40]}; expected the number of an image, from 0 up")
    features = cache.feature_map(int(row))
    if row in cache.invalid:
        raise QueryError(f"image {row} has no features: {cache.invalid[row]}; choose another image")
    columns = cache.dataset.rows([row], ["width", "height", "digest"]).to_pydict()
    highlight = Highlight(mask, boxes, polygon, downsample)
    drawn = highlight.drawn(columns["width"][0], columns["height"][0])
    preprocessing: Preprocessing = cache.spec.extractor.preprocessing
    region = mask_to_region(drawn, preprocessing, cache.grid, downsample)
    frame = Frame.of(drawn.shape[1], drawn.shape[0], preprocessing)
    return _query(
        region,
        features,
        extractor=cache.spec.extractor,
        precision=cache.spec.precision,
        probe=None,
        digest=columns["digest"][0],
        picture=picture_of(preview_of(cache, row), drawn, frame),
        highlight=highlight,
        visible=visible_part(drawn, frame, whole=highlight.whole),
    )


def query_again(query: Query, cache: Cache) -> Query:
    """Make the query that highlights the same part of the same image, for another cache.

    Parameters
    ----------
    query
        Of any extractor.
    cache
        Its dataset must hold the image; the features come from there, so no model is needed.

    Raises
    ------
    QueryError
        If the dataset does not hold the image, or there are no features under the region.
    """
    [rows] = rows_of(cache.dataset, [query.digest])
    valid = [row for row in rows.tolist() if row not in cache.invalid]
    if not valid:
        raise QueryError(
            f"the image of {query} is not in dataset {cache.dataset.id[:12]} of cache "
            f"{cache.id[:12]}; make the query with query_from_image and the cache's extractor"
        )
    given = query.highlight
    return query_from_row(
        cache,
        valid[0],
        mask=given.mask,
        boxes=given.boxes,
        polygon=given.polygon,
        downsample=given.downsample,
    )


def _query(region: Region, feature_map: NDArray[np.floating], **others: Any) -> Query:
    rows = slice(region.top, region.top + region.high)
    columns = slice(region.left, region.left + region.wide)
    features = np.ascontiguousarray(feature_map[rows, columns], np.float32)
    features.setflags(write=False)
    return Query(region, features, Pattern.of(region.weights, features), **others)
