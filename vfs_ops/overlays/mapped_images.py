"""Images together with their feature maps at one or more layers, from models or from caches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vfs_ops.caches.cache import Cache
from vfs_ops.errors import MismatchError, NotFoundError, QueryError
from vfs_ops.images.decoding import decode_image, decode_pixels
from vfs_ops.images.geometry import Frame
from vfs_ops.images.local_files import open_file

if TYPE_CHECKING:
    from vfs_ops.models.extract import FeatureExtractor

PICTURE_SIDE: Final = 512
"""Longest side of the pictures that are kept, in pixels; smaller images keep their size."""
_BATCH: Final = 32  # images in one forward pass

ImageLike = str | Path | bytes | Image.Image | NDArray[Any]


@dataclass(frozen=True, eq=False)
class MapLayer:
    """The feature maps of some images at one layer of one model."""

    label: str
    """What to call the layer."""
    features: tuple[NDArray[np.floating], ...]
    """One map per image, all of one shape (y, x, channel)."""
    frames: tuple[Frame, ...]
    """How each image maps into the model's input."""

    def __post_init__(self) -> None:
        shapes = {features.shape for features in self.features}
        if len(shapes) != 1 or len(next(iter(shapes))) != 3:
            raise QueryError(
                f"the feature maps of {self.label} have shapes {sorted(shapes)}; expected one "
                "shape (y, x, channel) for all images"
            )
        if len(self.frames) != len(self.features):
            raise QueryError(
                f"{self.label} has {len(self.features)} feature maps and {len(self.frames)} "
                "frames; expected one of each per image"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Cells along y and x."""
        rows, columns, _ = self.features[0].shape
        return rows, columns

    @property
    def channels(self) -> int:
        """Length of a feature vector."""
        return int(self.features[0].shape[2])


@dataclass(frozen=True, eq=False)
class MappedImages:
    """Images and their feature maps; made by `map_images`, `map_rows` or `join_maps`."""

    pictures: tuple[Image.Image | None, ...]
    """The whole images, RGB, at most 512 pixels a side; None where there is no preview."""
    labels: tuple[str, ...]
    """What to call the images."""
    layers: tuple[MapLayer, ...]
    """One or more, each with the maps of all images."""

    def __post_init__(self) -> None:
        counts = {len(self.pictures), len(self.labels)}
        counts |= {len(layer.features) for layer in self.layers}
        if not self.layers or counts == {0} or len(counts) != 1:
            raise QueryError(
                f"{len(self.pictures)} pictures, {len(self.labels)} labels and layers of "
                f"{[len(layer.features) for layer in self.layers]} images are given; expected one "
                "number of images, and one layer at least"
            )
        for number in range(len(self.labels)):
            sizes = {
                (layer.frames[number].width, layer.frames[number].height) for layer in self.layers
            }
            if len(sizes) != 1:
                raise MismatchError(
                    f"image {number} has sizes {sorted(sizes)} in different layers; give the maps "
                    "of the same images"
                )

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Width and height of each original image, in pixels."""
        return tuple((frame.width, frame.height) for frame in self.layers[0].frames)


def open_image(image: ImageLike) -> Image.Image:
    """Decode a local file, its bytes, a Pillow image, or an array; see `vfs_ops.images.decoding`.

    Raises
    ------
    ImageError
        If it cannot be decoded.
    NotFoundError
        If there is no such file.
    """
    if isinstance(image, str | Path):
        return open_file(image)[1]
    return decode_image(image) if isinstance(image, bytes) else decode_pixels(image)


def map_images(
    images: Sequence[ImageLike],
    extractors: FeatureExtractor | Sequence[FeatureExtractor],
    labels: Sequence[str] | None = None,
) -> MappedImages:
    """Compute the feature maps of some images, at all layers of one or more extractors.

    Parameters
    ----------
    images
        Local files, bytes of files, Pillow images, or arrays; see `vfs_ops.images.decoding`.
    extractors
        One or more; models and layers are compared in this order.
    labels
        What to call the images; names of files, or numbers, by default.

    Raises
    ------
    ImageError
        If an image cannot be decoded.
    QueryError
        If there is no image, or another number of labels.

    Examples
    --------
    >>> mapped = map_images(["cat.jpg", "dog.jpg"], extractor)  # doctest: +SKIP
    """
    if isinstance(images, str | Path | bytes):
        raise QueryError(f"images is one {type(images).__name__}; give a list of images")
    chosen = list(extractors) if isinstance(extractors, Sequence) else [extractors]
    decoded = [open_image(image) for image in images]
    if not decoded or not chosen:
        raise QueryError("no image or no extractor is given; give one of each at least")
    if labels is None:
        labels = [_name(image, number) for number, image in enumerate(images)]
    several = len({extractor.model.reference for extractor in chosen}) > 1
    layers: list[MapLayer] = []
    for extractor in chosen:
        frames = tuple(Frame.of(*image.size, extractor.preprocessing) for image in decoded)
        maps = _feature_maps(extractor, decoded)
        for info, features in zip(extractor.infos, maps, strict=True):
            label = f"{extractor.model.reference} · {info.name}" if several else info.name
            layers.append(MapLayer(label, tuple(features), frames))
    pictures = tuple(_picture(image) for image in decoded)
    return MappedImages(pictures, tuple(map(str, labels)), tuple(layers))


def map_rows(
    caches: Cache | Sequence[Cache],
    rows: Sequence[int],
    labels: Sequence[str] | None = None,
) -> MappedImages:
    """Read the feature maps of some images of a dataset from caches, by ranged reads.

    Parameters
    ----------
    caches
        One or more caches of the same images: layers, or models.
    rows
        Numbers of the images; the cache may be of any size.
    labels
        What to call the images; label and number by default.

    Raises
    ------
    QueryError
        If there is no such row, or it could not be read when the cache was built.
    MismatchError
        If the caches are of different images.
    """
    chosen = [caches] if isinstance(caches, Cache) else list(caches)
    wanted = [int(row) for row in rows]
    if not chosen or not wanted:
        raise QueryError("no cache or no row is given; give one of each at least")
    dataset = chosen[0].dataset
    for cache in chosen:
        if cache.dataset.images_id != dataset.images_id:
            raise MismatchError(
                f"caches {chosen[0].id[:12]} and {cache.id[:12]} are of different images; give "
                "caches of the same dataset, or read each and join them with join_maps"
            )
        _check_rows(cache, wanted)
    columns = dataset.rows(wanted, ["width", "height", "label"]).to_pydict()
    if labels is None:
        labels = [
            f"{label} · {row}" if label else f"image {row}"
            for label, row in zip(columns["label"], wanted, strict=True)
        ]
    several = len({cache.spec.extractor.model for cache in chosen}) > 1
    layers = []
    for cache in chosen:
        spec = cache.spec.extractor
        frames = [
            Frame.of(width, height, spec.preprocessing)
            for width, height in zip(columns["width"], columns["height"], strict=True)
        ]
        features = tuple(cache.feature_maps_of(wanted))
        label = f"{spec.model} · {spec.layer}" if several else spec.layer
        layers.append(MapLayer(label, features, tuple(frames)))
    pictures = tuple(_preview(chosen[0], row) for row in wanted)
    return MappedImages(pictures, tuple(map(str, labels)), tuple(layers))


def join_maps(*parts: MappedImages) -> MappedImages:
    """Put images from several places side by side: natural and generated ones, two datasets.

    Parameters
    ----------
    parts
        With the same layers in the same order.

    Raises
    ------
    MismatchError
        If the layers differ in name, grid or channels.
    """
    if not parts:
        raise QueryError("nothing is given to join; give one part at least")
    described = [
        [(layer.label, layer.grid, layer.channels) for layer in part.layers] for part in parts
    ]
    for number, other in enumerate(described):
        if other != described[0]:
            raise MismatchError(
                f"part {number} has layers {other}, and the first {described[0]}; give the maps of "
                "the same layers of the same models, in the same order"
            )
    layers = tuple(
        MapLayer(
            together[0].label,
            tuple(features for layer in together for features in layer.features),
            tuple(frame for layer in together for frame in layer.frames),
        )
        for together in zip(*(part.layers for part in parts), strict=True)
    )
    return MappedImages(
        tuple(picture for part in parts for picture in part.pictures),
        tuple(label for part in parts for label in part.labels),
        layers,
    )


def _name(image: ImageLike, number: int) -> str:
    return Path(image).name if isinstance(image, str | Path) else f"image {number}"


def _picture(image: Image.Image) -> Image.Image:
    picture = image.convert("RGB")
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    return picture


def _preview(cache: Cache, row: int) -> Image.Image | None:
    try:
        return decode_image(cache.dataset.preview(row)).convert("RGB")
    except NotFoundError:
        return None


def _feature_maps(
    extractor: FeatureExtractor, images: Sequence[Image.Image]
) -> list[NDArray[np.float32]]:
    batches = []
    for start in range(0, len(images), _BATCH):
        pixels = [extractor.prepare(image) for image in images[start : start + _BATCH]]
        batches.append(extractor.features(np.stack(pixels)))
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def _check_rows(cache: Cache, rows: Sequence[int]) -> None:
    for row in rows:
        if not 0 <= row < cache.count:
            raise QueryError(f"image {row} is asked for; this cache has 0 to {cache.count - 1}")
        if row in cache.invalid:
            raise QueryError(
                f"image {row} has no features: {cache.invalid[row]}; choose another image"
            )
