"""How a cache is cut into shards, chunks and batches: decided once, then obeyed by all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, Self, get_args

import numpy as np

from vfs_ops.errors import SpecError, UnsafeMetadataError
from vfs_ops.identity.canonical import FORMATS, check_format, is_id

Codec = Literal["none", "zstd"]

SHARD_BYTES: Final = 32 << 20
"""A shard is what a scan reads in one request: the most images that stay below this."""
CHUNK_BYTES: Final = 256 << 10
"""A chunk is what reading one image costs: the most images that stay below this."""
MAX_IMAGES_PER_SHARD: Final = 1024
"""Bounds what a kill costs, and the memory of a task that covers several layers."""
BATCH_SIZE: Final = 32
"""Images in one forward pass, and the fewest in a shard, so that layers share their batches."""
MAX_SHARD_BYTES: Final = 1 << 30
"""No plan may ask a reader to decode a larger shard."""
MAX_SHARDS: Final = 1 << 22
"""No plan may ask a reader to look for more."""
MAX_THREADS: Final = 1024
"""No plan may ask a builder for more."""


@dataclass(frozen=True)
class Plan:
    """The stored decisions about one cache; valid by construction."""

    cache: str
    """Cache id."""
    dataset: str
    """Dataset id of the first build; later datasets may share its images."""
    images: int
    """Rows of the cache."""
    grid: tuple[int, int]
    """Cells along y and x."""
    channels: int
    dtype: Literal["float16", "float32"]
    images_per_shard: int
    """Power of two."""
    images_per_chunk: int
    """Power of two, at most `images_per_shard`."""
    batch_size: int
    """Images in one forward pass; batches start at multiples of it, so a resumed build computes
    what an undisturbed one does. Power of two, at most `images_per_shard`."""
    codec: Codec
    """What compresses the chunks of the features."""
    sample_ratio: float
    """How much smaller zstd made a sample of the features; why `codec` was chosen."""
    weights: str
    """Where the weights came from, in words; the identity is in their fingerprint."""
    versions: Mapping[str, str]
    """Libraries that made the plan."""
    threads: int | None = None
    """Threads of the CPU that a forward pass is computed with, whoever goes on: some convolutions
    (of SqueezeNet and MobileNet, for one) sum in another order on one thread than on two. None
    where a GPU or another program computes, and in plans that do not tell."""
    format: int = FORMATS["plan"]
    """Version of the document."""

    def __post_init__(self) -> None:
        small = (self.images, *self.grid, self.channels)
        powers = (self.images_per_shard, self.images_per_chunk, self.batch_size)
        sound = (
            is_id(self.cache)
            and is_id(self.dataset)
            and self.dtype in ("float16", "float32")
            and self.codec in get_args(Codec)
            and len(self.grid) == 2
            and all(type(n) is int and 0 < n < 1 << 32 for n in small)
            and all(type(n) is int and n > 0 and n & (n - 1) == 0 for n in powers)
            and max(self.images_per_chunk, self.batch_size) <= self.images_per_shard
            and self.images_per_shard <= MAX_IMAGES_PER_SHARD
            and self.images_per_shard * self.image_bytes <= MAX_SHARD_BYTES
            and self.shard_count <= MAX_SHARDS
            and (self.threads is None or type(self.threads) is int)
            and (self.threads is None or 0 < self.threads <= MAX_THREADS)
            and type(self.sample_ratio) in (int, float)
            and isinstance(self.weights, str)
            and isinstance(self.versions, Mapping)
            and all(isinstance(value, str) for value in self.versions.values())
        )
        if not sound:
            raise UnsafeMetadataError(
                f"the plan of cache {str(self.cache)[:12]} asks for {self.images} images of "
                f"{self.grid} cells, {self.channels} channels, in shards of "
                f"{self.images_per_shard} and chunks of {self.images_per_chunk}, codec "
                f"{self.codec!r}, {self.threads} threads; expected powers of two, a known codec, "
                f"shards up to {MAX_SHARD_BYTES >> 20} MiB and {MAX_IMAGES_PER_SHARD} images, and "
                f"up to {MAX_THREADS} threads; it was changed or is not ours: build it again"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (y, x, channel) of one feature map."""
        return (*self.grid, self.channels)

    @property
    def image_bytes(self) -> int:
        """Bytes of one feature map as stored, before compression."""
        return self.grid[0] * self.grid[1] * self.channels * np.dtype(self.dtype).itemsize

    @property
    def chunks_per_shard(self) -> int:
        """Number of chunks of a full shard."""
        return self.images_per_shard // self.images_per_chunk

    @property
    def shard_count(self) -> int:
        """Number of shards."""
        return -(-self.images // self.images_per_shard)

    def shard_rows(self, shard: int) -> range:
        """Return the rows of one shard."""
        start = shard * self.images_per_shard
        return range(start, min(start + self.images_per_shard, self.images))

    def document(self) -> dict[str, Any]:
        """Return what is stored as ``plan.json``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"kind": "plan", **values}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `document` wrote; fields that are not known are left out.

        Raises
        ------
        NewerFormatError
            If it is of a newer format.
        UnsafeMetadataError
            If a value is missing or beyond its bounds.
        """
        check_format(document, "plan", "plan.json")
        names = {field.name for field in fields(cls)}
        values = {name: document[name] for name in names & set(document)}
        grid = values.get("grid")
        if set(values) | {"threads"} != names or not isinstance(grid, list):
            raise UnsafeMetadataError(
                f"plan.json has fields {sorted(document)}; expected {sorted(names)}; build it again"
            )
        return cls(**{**values, "grid": tuple(grid)})


def choose_sizes(image_bytes: int) -> tuple[int, int, int]:
    """Choose the images of a shard, a chunk and a batch by the size of one feature map alone.

    The number of images does not enter, so a dataset that grows keeps its shards.

    Parameters
    ----------
    image_bytes
        Bytes of one stored feature map.

    Returns
    -------
    images_per_shard, images_per_chunk, batch_size : int
        Powers of two. A shard holds whole batches.

    Raises
    ------
    SpecError
        If not even one feature map fits into a shard.

    Examples
    --------
    >>> choose_sizes(7 * 7 * 320 * 2)
    (1024, 8, 32)
    """
    if image_bytes > MAX_SHARD_BYTES:
        raise SpecError(
            f"one feature map takes {image_bytes >> 20} MiB; up to {MAX_SHARD_BYTES >> 20} MiB can "
            "be stored; choose a deeper layer or a smaller input"
        )
    batch = min(BATCH_SIZE, _power_below(MAX_SHARD_BYTES // image_bytes))
    shard = max(batch, min(_power_below(SHARD_BYTES // image_bytes), MAX_IMAGES_PER_SHARD))
    return shard, min(_power_below(CHUNK_BYTES // image_bytes), shard), batch


def _power_below(number: int) -> int:
    return 1 << max(number, 1).bit_length() - 1
