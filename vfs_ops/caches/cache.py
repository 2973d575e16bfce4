"""A finished cache, opened: its shards, single feature maps, and the whole as xarray."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vfs_ops.caches.cache_reading import ShardStore
from vfs_ops.caches.commits import Commit, read_commit, read_committed_receipts
from vfs_ops.caches.completeness import finished_shards, read_receipts
from vfs_ops.caches.layout import cache_key, decode_plan, read_probe, read_spec
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shard_sources import ShardArrays, ShardSource, read_rows
from vfs_ops.caches.zarr_documents import group_document
from vfs_ops.datasets.dataset import Dataset, open_dataset
from vfs_ops.errors import DamagedError, IncompleteError, MismatchError, UnsafeMetadataError
from vfs_ops.identity.canonical import parse_json
from vfs_ops.identity.spec import CacheSpec
from vfs_ops.progress import ProgressCallback, silent
from vfs_ops.store.locations import MAX_DOCUMENT_BYTES
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True, repr=False)
class Cache:
    """All feature maps of one dataset under one extractor; made by `open_cache`."""

    workspace: Workspace
    spec: CacheSpec
    plan: Plan
    receipts: Sequence[Receipt]
    """One per shard that is there, in order; of all shards, unless the cache is partial. Each may
    be made when it is looked at."""
    dataset: Dataset
    """A dataset with these images."""
    commit: Commit | None
    """None if the cache is not finished, and was opened as it is."""
    source: ShardSource
    """Where shards are read: the store, copies on local disk, or memory."""

    def __repr__(self) -> str:
        from vfs_ops.caches.residency import ResidentShards

        rows, columns = self.grid
        held = f"; {self.source.summary}" if isinstance(self.source, ResidentShards) else ""
        return (
            f"<Cache {self.id[:12]}: {self.count} images of {rows}×{columns}×{self.channels}, "
            f"{self.spec.extractor.model} {self.spec.extractor.layer}{held}>"
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
    def missing_shards(self) -> tuple[int, ...]:
        """Shards without a receipt; none, unless the cache was opened before it was finished."""
        if len(self.receipts) == self.shard_count:
            return ()
        there = {receipt.shard for receipt in self.receipts}
        return tuple(shard for shard in range(self.shard_count) if shard not in there)

    @cached_property
    def probe(self) -> NDArray[np.float32]:
        """Feature map of the probe image, shape (y, x, channel)."""
        probe = read_probe(self.workspace, self.plan)
        if self.commit is not None:
            self.commit.check("data.zarr/probe/c/0/0/0", probe.tobytes())
        return probe

    @property
    def resident(self) -> bool:
        """Whether all shards lie in memory, so that a search reads nothing."""
        from vfs_ops.caches.residency import ResidentShards

        return isinstance(self.source, ResidentShards)

    def load(self, *, device: str | None = None, progress: ProgressCallback = silent) -> Cache:
        """Return this cache with all shards in memory; see `vfs_ops.caches.residency.load`."""
        from vfs_ops.caches.residency import load

        return load(self, progress, device)

    def cached_locally(self, directory: str | Path, max_bytes: int = 10 << 30) -> Cache:
        """Return this cache with copies of the shards it reads in a local folder.

        Parameters
        ----------
        directory
            Where they are kept; several caches and processes may share it.
        max_bytes
            Size limit of the folder; the copies that were not used for longest make room.

        Raises
        ------
        QueryError
            If the limit is not a positive number of bytes.
        """
        from vfs_ops.caches.local_copies import LocalCopies

        return replace(self, source=LocalCopies.at(self.workspace, self.plan, directory, max_bytes))

    def shard_rows(self, shard: int) -> range:
        """Return the rows of one shard."""
        return self.plan.shard_rows(shard)

    def receipt(self, shard: int) -> Receipt:
        """Return the receipt of one shard.

        Raises
        ------
        IncompleteError
            If the shard is not built yet.
        """
        if shard in self.missing_shards:
            raise IncompleteError(
                f"shard {shard} of cache {self.id[:12]} is missing: {len(self.receipts)} of "
                f"{self.shard_count} are there; build the cache again to compute the rest"
            )
        return self.receipts[shard - bisect_left(self.missing_shards, shard)]

    def read_shard(self, shard: int) -> ShardArrays:
        """Read one shard, in two requests.

        Raises
        ------
        DamagedError
            If it is not as it was written.
        """
        return self.source.read(self.receipt(shard), None, None)

    def read_norms(self, shard: int) -> NDArray[np.float32]:
        """Read the squared norms of one shard, shape (image, y, x).

        Raises
        ------
        DamagedError
            If they are not as they were written.
        """
        return ShardStore(self.workspace, self.plan).read_norms(self.receipt(shard))

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
        found: NDArray[np.floating] = self.feature_maps_of([row])[0]
        return found

    def feature_maps(self, start: int, stop: int) -> NDArray[np.floating]:
        """Read the feature maps of consecutive rows; whole shards in one request each.

        Returns
        -------
        ndarray
            Shape (image, y, x, channel), in the stored dtype.
        """
        return self.feature_maps_of(range(start, stop))

    def feature_maps_of(self, rows: Sequence[int] | NDArray[np.integer]) -> NDArray[np.floating]:
        """Read the feature maps of any rows, in the order asked for.

        Only the chunks that hold them are fetched, side by side; a shard of which much is needed
        is read whole.

        Returns
        -------
        ndarray
            Shape (row, y, x, channel), in the stored dtype.

        Raises
        ------
        QueryError
            If there is no such row.
        DamagedError
            If what is read is not as it was written.
        """
        return read_rows(self.source, self.receipt, self.plan, rows)

    def to_xarray(self) -> xarray.Dataset:
        """Open the cache as an `xarray.Dataset`, lazily over Dask, one Dask chunk per shard.

        Returns
        -------
        xarray.Dataset
            ``features`` (image, y, x, channel), ``sq_norm`` (image, y, x) and ``valid`` (image),
            with coordinates image and channel (numbers), y and x (pixels of the preprocessed
            image, at the middle of a cell).
        """
        from vfs_ops.caches.lazy_arrays import cache_to_xarray

        return cache_to_xarray(self)


def open_cache(
    workspace: Workspace,
    cache_id: str,
    dataset: Dataset | None = None,
    *,
    allow_partial: bool = False,
) -> Cache:
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
    allow_partial
        Open a cache that is still being built, too, with the shards that it has.

    Raises
    ------
    NotFoundError
        If there is no such cache.
    IncompleteError
        If it is not finished, and `allow_partial` is not given.
    MismatchError
        If `dataset` has other images.
    NewerFormatError, DamagedError, UnsafeMetadataError
        If it cannot be used.
    """
    spec = read_spec(workspace, cache_id)
    commit = read_commit(workspace, cache_id)
    stored = workspace.read(cache_key(cache_id, "plan.json"), most=MAX_DOCUMENT_BYTES)
    plan = decode_plan(stored)
    receipts: Sequence[Receipt]
    if commit is not None:
        commit.check("plan.json", stored)
        receipts = read_committed_receipts(workspace, plan, commit)
    else:
        shards = sorted(finished_shards(workspace, plan))
        if not allow_partial:
            raise IncompleteError(
                f"cache {cache_id[:12]} is not finished: {len(shards)} of {plan.shard_count} "
                "shards are there; build it again to compute the rest, or give "
                "allow_partial=True to search what is there"
            )
        receipts = tuple(read_receipts(workspace, plan, shards))
    _check_documents(workspace, spec, plan, commit)
    if dataset is None:
        dataset = open_dataset(workspace, plan.dataset)
    if (dataset.images_id, dataset.count) != (spec.images, plan.images):
        raise MismatchError(
            f"dataset {dataset.id[:12]} has {dataset.count} images (images id "
            f"{dataset.images_id[:12]}) and cache {cache_id[:12]} is of {plan.images} "
            f"({spec.images[:12]}); give the dataset that the cache was built for"
        )
    source = ShardStore(workspace, plan)
    return Cache(workspace, spec, plan, receipts, dataset, commit, source)


def _check_documents(
    workspace: Workspace, spec: CacheSpec, plan: Plan, commit: Commit | None
) -> None:
    """Refuse documents that disagree, or Zarr metadata that is not exactly what the plan makes."""
    if (plan.cache, plan.dtype) != (spec.id, spec.dtype):
        raise DamagedError(f"plan.json and cache.json of {spec.id[:12]} disagree; mirror again")
    key = cache_key(spec.id, "data.zarr", "zarr.json")
    data = workspace.read(key, most=MAX_DOCUMENT_BYTES)
    if parse_json(data, "zarr.json") != group_document(spec, plan):
        raise UnsafeMetadataError(
            f"the Zarr metadata of cache {spec.id[:12]} is not what its plan makes (codecs, sizes "
            "or names differ); it was changed, so mirror or build the cache again"
        )
    if commit is not None:
        commit.check("data.zarr/zarr.json", data)
