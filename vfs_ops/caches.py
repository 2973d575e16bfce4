"""A finished cache, opened: its shards, single feature maps, and the whole as xarray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vfs_ops.canonical import parse_json
from vfs_ops.commits import Commit, read_commit, read_committed_receipts
from vfs_ops.completeness import finished_shards
from vfs_ops.datasets import Dataset, open_dataset
from vfs_ops.errors import (
    DamagedError,
    IncompleteError,
    MismatchError,
    QueryError,
    UnsafeMetadataError,
)
from vfs_ops.layout import (
    cache_key,
    decode_plan,
    features_key,
    read_probe,
    read_spec,
    sha256,
    sq_norm_key,
)
from vfs_ops.plans import Plan
from vfs_ops.receipts import Receipt
from vfs_ops.shards import decode_chunk, decode_features, decode_index, index_bytes
from vfs_ops.spec import CacheSpec
from vfs_ops.storage import Workspace
from vfs_ops.zarr_documents import group_document

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class ShardArrays:
    """One shard in memory."""

    features: NDArray[np.floating]
    """Shape (image, y, x, channel), in the stored dtype; may be read-only."""
    sq_norm: NDArray[np.float32]
    """Shape (image, y, x)."""
    valid: NDArray[np.bool_]
    """Shape (image,)."""


@dataclass(frozen=True, repr=False)
class Cache:
    """All feature maps of one dataset under one extractor; made by `open_cache`."""

    workspace: Workspace
    spec: CacheSpec
    plan: Plan
    receipts: Sequence[Receipt]
    """One per shard, in order; each is made when it is looked at."""
    dataset: Dataset
    """A dataset with these images."""
    commit: Commit

    def __repr__(self) -> str:
        rows, columns = self.grid
        return (
            f"<Cache {self.id[:12]}: {self.count} images of {rows}×{columns}×{self.channels}, "
            f"{self.spec.extractor.model} {self.spec.extractor.layer}>"
        )

    @property
    def id(self) -> str:
        """The cache id."""
        return self.plan.cache

    @property
    def count(self) -> int:
        """Number of images, readable or not."""
        return self.plan.images

    @property
    def grid(self) -> tuple[int, int]:
        """Cells along y and x."""
        return self.plan.grid

    @property
    def channels(self) -> int:
        """Length of a feature vector."""
        return self.plan.channels

    @property
    def shard_count(self) -> int:
        """Number of shards."""
        return self.plan.shard_count

    @property
    def feature_bytes(self) -> int:
        """Stored bytes of all features."""
        return sum(receipt.feature_bytes for receipt in self.receipts)

    @cached_property
    def invalid(self) -> dict[int, str]:
        """Rows that can never be a hit, with the reason."""
        return {row: reason for receipt in self.receipts for row, reason in receipt.invalid}

    @cached_property
    def probe(self) -> NDArray[np.float32]:
        """Feature map of the probe image, shape (y, x, channel)."""
        probe = read_probe(self.workspace, self.plan)
        self.commit.check("data.zarr/probe/c/0/0/0", probe.tobytes())
        return probe

    def shard_rows(self, shard: int) -> range:
        """Return the rows of one shard."""
        return self.plan.shard_rows(shard)

    def read_shard(self, shard: int) -> ShardArrays:
        """Read one shard, in two requests.

        Raises
        ------
        DamagedError
            If it is not as it was written.
        """
        rows, what = self.shard_rows(shard), self._name(shard)
        data = self.workspace.read(features_key(self.id, shard))
        expected = self.receipts[shard].feature_bytes
        if len(data) != expected:
            raise DamagedError(f"{what} has {len(data)} bytes, not {expected}; run verify")
        valid = np.ones(len(rows), np.bool_)
        valid[[row - rows.start for row, _ in self.receipts[shard].invalid]] = False
        return ShardArrays(
            features=decode_features(
                data, len(rows), self.plan, what, self.receipts[shard].chunk_checksums
            ),
            sq_norm=self.read_norms(shard),
            valid=valid,
        )

    def read_norms(self, shard: int) -> NDArray[np.float32]:
        """Read the squared norms of one shard, shape (image, y, x).

        Raises
        ------
        DamagedError
            If they are not as they were written.
        """
        data = self.workspace.read(sq_norm_key(self.id, shard))
        whole = 4 * self.plan.images_per_shard * self.grid[0] * self.grid[1]
        if len(data) != whole or sha256(data) != self.receipts[shard].sq_norm:
            raise DamagedError(f"{self._name(shard)}: sq_norm is not as written; run verify")
        return np.frombuffer(data, "<f4").reshape(-1, *self.grid)[: len(self.shard_rows(shard))]

    def feature_map(self, row: int) -> NDArray[np.floating]:
        """Read the feature map of one image by ranged reads.

        Returns
        -------
        ndarray
            Shape (y, x, channel), in the stored dtype.

        Raises
        ------
        QueryError
            If there is no such row.
        """
        if not 0 <= row < self.count:
            raise QueryError(f"image {row} is asked for; this cache has 0 to {self.count - 1}")
        found: NDArray[np.floating] = self.feature_maps(row, row + 1)[0]
        return found

    def feature_maps(self, start: int, stop: int) -> NDArray[np.floating]:
        """Read the feature maps of consecutive rows; whole shards in one request each.

        Returns
        -------
        ndarray
            Shape (image, y, x, channel), in the stored dtype.
        """
        parts: list[NDArray[np.floating]] = []
        row = start
        while row < stop:
            shard = row // self.plan.images_per_shard
            rows = self.shard_rows(shard)
            end = min(stop, rows.stop)
            if (row, end) == (rows.start, rows.stop):
                parts.append(self.read_shard(shard).features)
            else:
                parts.append(self._part_of_shard(shard, row - rows.start, end - rows.start))
            row = end
        if not parts:
            return np.empty((0, *self.plan.image_shape), self.plan.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def to_xarray(self) -> xarray.Dataset:
        """Open the cache as an `xarray.Dataset`, lazily over Dask, one Dask chunk per shard.

        Returns
        -------
        xarray.Dataset
            ``features`` (image, y, x, channel), ``sq_norm`` (image, y, x) and ``valid`` (image),
            with coordinates image and channel (numbers), y and x (pixels of the preprocessed
            image, at the middle of a cell).
        """
        from vfs_ops.lazy_arrays import cache_to_xarray

        return cache_to_xarray(self)

    def _part_of_shard(self, shard: int, start: int, stop: int) -> NDArray[np.floating]:
        """Read images `start` to `stop` of a shard: the index, then the chunks that hold them."""
        key, what, plan = features_key(self.id, shard), self._name(shard), self.plan
        size = self.receipts[shard].feature_bytes
        tail = self.workspace.read(key, size - index_bytes(plan), size)
        index = decode_index(tail, len(self.shard_rows(shard)), plan, what)
        first, last = start // plan.images_per_chunk, (stop - 1) // plan.images_per_chunk
        begin, end = int(index[first, 0]), int(index[last].sum())
        data = self.workspace.read(key, begin, end)
        checksums = self.receipts[shard].chunk_checksums[first : last + 1]
        chunks = [
            decode_chunk(data[offset - begin : offset - begin + length], checksum, plan, what)
            for (offset, length), checksum in zip(
                index[first : last + 1].tolist(), checksums, strict=True
            )
        ]
        skipped = first * plan.images_per_chunk
        return np.concatenate(chunks)[start - skipped : stop - skipped]

    def _name(self, shard: int) -> str:
        return f"shard {shard} of cache {self.id[:12]}"


def open_cache(workspace: Workspace, cache_id: str, dataset: Dataset | None = None) -> Cache:
    """Open a finished cache for reading.

    Parameters
    ----------
    workspace
        Where it lies.
    cache_id
        Its full id.
    dataset
        A dataset of the same images whose labels and metadata to show; the one it was built for
        if not given.

    Raises
    ------
    NotFoundError
        If there is no such cache.
    IncompleteError
        If it is not finished.
    MismatchError
        If `dataset` has other images.
    NewerFormatError, DamagedError, UnsafeMetadataError
        If it cannot be used.
    """
    spec = read_spec(workspace, cache_id)
    commit = read_commit(workspace, cache_id)
    stored = workspace.read(cache_key(cache_id, "plan.json"))
    plan = decode_plan(stored)
    if commit is None:
        done = len(finished_shards(workspace, plan))
        raise IncompleteError(
            f"cache {cache_id[:12]} is not finished: {done} of {plan.shard_count} shards are "
            "there; build it again to compute the rest"
        )
    commit.check("plan.json", stored)
    _check_documents(workspace, spec, plan, commit)
    receipts = read_committed_receipts(workspace, plan, commit)
    if dataset is None:
        dataset = open_dataset(workspace, plan.dataset)
    if (dataset.images_id, dataset.count) != (spec.images, plan.images):
        raise MismatchError(
            f"dataset {dataset.id[:12]} has {dataset.count} images (images id "
            f"{dataset.images_id[:12]}) and cache {cache_id[:12]} is of {plan.images} "
            f"({spec.images[:12]}); give the dataset that the cache was built for"
        )
    return Cache(workspace, spec, plan, receipts, dataset, commit)


def _check_documents(workspace: Workspace, spec: CacheSpec, plan: Plan, commit: Commit) -> None:
    """Refuse documents that disagree, or Zarr metadata that is not exactly what the plan makes."""
    if (plan.cache, plan.dtype) != (spec.id, spec.dtype):
        raise DamagedError(f"plan.json and cache.json of {spec.id[:12]} disagree; mirror again")
    data = workspace.read(cache_key(spec.id, "data.zarr", "zarr.json"))
    if parse_json(data, "zarr.json") != group_document(spec, plan):
        raise UnsafeMetadataError(
            f"the Zarr metadata of cache {spec.id[:12]} is not what its plan makes (codecs, sizes "
            "or names differ); it was changed, so mirror or build the cache again"
        )
    commit.check("data.zarr/zarr.json", data)
