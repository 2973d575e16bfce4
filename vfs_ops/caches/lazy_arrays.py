"""A cache as lazily read Dask arrays in an `xarray.Dataset`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache


@dataclass(frozen=True)
class _RowArray:
    """An array that is read by rows when it is sliced, as Dask asks of its sources."""

    read: Callable[[int, int], NDArray[Any]]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        first, *rest = index if isinstance(index, tuple) else (index,)
        wanted = np.arange(self.shape[0])[first]
        start, stop = int(wanted.min(initial=self.shape[0])), int(wanted.max(initial=-1)) + 1
        rows: NDArray[Any] = self.read(min(start, stop), stop)[(wanted - start, *rest)]
        return rows


def cache_to_xarray(cache: Cache) -> xarray.Dataset:
    """Wrap a cache; see `vfs_ops.caches.cache.Cache.to_xarray`."""
    plan, count, grid = cache.plan, cache.count, cache.grid

    def read_norms(start: int, stop: int) -> NDArray[np.float32]:
        shards = range(start // plan.images_per_shard, -(-stop // plan.images_per_shard))
        whole = np.concatenate([cache.read_norms(shard) for shard in shards])
        skipped = shards.start * plan.images_per_shard
        return whole[start - skipped : stop - skipped]

    def lazy(
        name: str, read: Callable[[int, int], NDArray[Any]], shape: tuple[int, ...], dtype: str
    ) -> Any:
        rows = _RowArray(read, (count, *shape), np.dtype(dtype))
        chunks = (plan.images_per_shard, *shape)
        return da.from_array(rows, chunks=chunks, name=f"{name}-{cache.id}", asarray=False)  # type: ignore[no-untyped-call]

    valid = np.ones(count, np.bool_)
    valid[list(cache.invalid)] = False
    height, width = cache.spec.extractor.preprocessing.input_size
    image_dims = ("image", "y", "x")
    return xarray.Dataset(
        {
            "features": (
                (*image_dims, "channel"),
                lazy("features", cache.feature_maps, plan.image_shape, plan.dtype),
            ),
            "sq_norm": (image_dims, lazy("sq_norm", read_norms, grid, "float32")),
            "valid": (("image",), valid),
        },
        coords={
            "image": np.arange(count),
            "y": (np.arange(grid[0]) + 0.5) * (height / grid[0]),
            "x": (np.arange(grid[1]) + 0.5) * (width / grid[1]),
            "channel": np.arange(plan.channels),
        },
        attrs={
            "cache": cache.id,
            "model": cache.spec.extractor.model,
            "layer": cache.spec.extractor.layer,
        },
    )
