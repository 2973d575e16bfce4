"""Feature maps in memory, as the kernel takes them: blocks, parts of a search, and buffers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from vfs_ops.kernel.compact import Tile, compact_pays, tiles_of


@dataclass(frozen=True, eq=False)
class Block:
    """Feature maps as stored, and perhaps the compact form that proposes faster."""

    features: torch.Tensor
    """Shape (row, y, x, channel), float16 or float32, finite; as stored."""
    norms: torch.Tensor
    """Shape (row, y, x), float32: the squared norms of the cells, rounded once."""
    tiles: tuple[Tile, ...] = ()
    """The compact form, in the order of rows; none if it is not held."""

    @classmethod
    def of(
        cls,
        features: NDArray[np.floating],
        sq_norm: NDArray[np.float32],
        *,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Take arrays as they are, without a copy where `device` is the processor.

        Parameters
        ----------
        features
            Shape (row, y, x, channel), as stored.
        sq_norm
            Shape (row, y, x).
        device
            Where to score; arrays are copied to a GPU once, here.
        """
        stored = tensor_of(np.ascontiguousarray(features)).to(device)
        return cls(stored, tensor_of(np.ascontiguousarray(sq_norm)).to(device))

    def resident(self) -> Self:
        """Return the block with the compact form, where this machine multiplies that faster.

        It takes one byte per stored value, beside the stored values, which decide. On a GPU, on
        processors without fast products of int8, and for more channels than it can hold, the
        block is returned as it is.
        """
        if self.tiles or self.features.device.type != "cpu" or not len(self.features):
            return self
        if not compact_pays(self.features.shape[3]):
            return self
        return replace(self, tiles=tiles_of(self.features, self.norms))

    @property
    def nbytes(self) -> int:
        """Bytes held, all forms together."""
        held = [self.features, self.norms]
        held += [tensor for tile in self.tiles for tensor in tile.tensors]
        return sum(tensor.nbytes for tensor in held)

    @property
    def kind(self) -> tuple[int, torch.device]:
        """Number of channels, and where the block is."""
        return self.features.shape[3], self.features.device

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, eq=False)
class Part:
    """A block and what of it may be a hit."""

    block: Block
    images: NDArray[np.int64]
    """Number of the image, for every row of the block."""
    groups: NDArray[np.int64]
    """Number of the image's group, for every row; see `vfs_ops.kernel.topk.Best`."""
    allowed: NDArray[np.bool_]
    """Which rows may be hits: shape (row,), or (query, row) where queries differ."""

    def allowed_to(self, queries: int) -> NDArray[np.bool_]:
        """Return which rows may be hits of which query, shape (query, row)."""
        return np.broadcast_to(self.allowed, (queries, len(self.block)))


@dataclass(frozen=True)
class Scratch:
    """Buffers that grow to what is asked of them and are used again; for one search at a time."""

    _held: dict[tuple[str, torch.dtype, torch.device], torch.Tensor] = field(default_factory=dict)
    _workers: dict[int, Scratch] = field(default_factory=dict)

    def take(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> torch.Tensor:
        """Return a buffer of some shape; what it holds is valid until its name is taken again."""
        size, where = math.prod(shape), torch.device(device)
        held = self._held.get((name, dtype, where))
        if held is None or len(held) < size:
            held = torch.empty(size, dtype=dtype, device=where)
            self._held[name, dtype, where] = held
        return held[:size].view(shape)

    def of_worker(self, number: int) -> Scratch:
        """Return the buffers of one of several threads that work on the same search."""
        return self._workers.setdefault(number, Scratch())

    @property
    def nbytes(self) -> int:
        """Bytes held, those of workers included."""
        own = sum(tensor.nbytes for tensor in self._held.values())
        return own + sum(worker.nbytes for worker in self._workers.values())


def tensor_of(array: NDArray[Any]) -> torch.Tensor:
    """Return a tensor on an array's memory, which is only read."""
    if array.flags.writeable:
        return torch.from_numpy(array)
    interface: dict[str, Any] = dict(array.__array_interface__)
    interface["data"] = (interface["data"][0], False)  # torch warns of read-only memory
    view = np.asarray(SimpleNamespace(__array_interface__=interface, owner=array))
    return torch.from_numpy(view)
