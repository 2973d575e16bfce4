"""The compact form of feature maps: one byte per value, to propose windows with.

Each cell is kept as scale·(z + zero) with whole numbers z in [-128, 127]. `zero` is 128 where no
value of the tile is negative, as after a ReLU, so that all 256 steps are used, and 0 elsewhere;
the value 0 is kept exactly. The scale is the one that leaves the least, so that what is lost,
stored - kept, is at right angles to what is kept. What is lost is measured, not estimated, and
enlarged by more than the rounding of that computation.

A tile holds its images side by side, so that one cell of all of them is contiguous: products are
added up over long contiguous runs, and a cell is multiplied alone where a query needs no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import torch

from vfs_ops.kernel.machine_code import has

_CELLS_AT_ONCE: Final = 32768
"""Cells in a tile, about: their products with some columns stay in the processor's cache."""
_LEAST_ROWS: Final = 32
_FAST: Final = ("amx-int8", "avx512vnni", "avxvnni")
"""What a processor may have to multiply int8 several times as fast as float32."""
_CHANNELS: Final = range(8, 16_000)
"""With more, `vfs_ops.kernel.compact_pass` would need another bound; with fewer nothing is gained.
Sums of so many products of int8 are exact in int32."""


@dataclass(frozen=True, eq=False)
class Tile:
    """Some consecutive rows of a block."""

    values: torch.Tensor
    """z, int8, shape (y, x, row, channel)."""
    scales: torch.Tensor
    """Float32, shape (y, x, row); 0 for a cell of zeros."""
    zero: int
    """What is added to z: 0 or 128."""
    norms: torch.Tensor
    """Float64, shape (y, x, row): the stored squared norms."""
    lost: torch.Tensor
    """Float64, shape (y, x, row): |stored - kept|², enlarged."""
    share: torch.Tensor
    """Float64, shape (row,): no cell's |stored - kept| / |stored| is larger."""

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All that is held."""
        return self.values, self.scales, self.norms, self.lost, self.share


@torch.inference_mode()
def tiles_of(features: torch.Tensor, norms: torch.Tensor) -> tuple[Tile, ...]:
    """Return the compact form of stored features.

    Parameters
    ----------
    features
        Shape (row, y, x, channel), float16 or float32, finite.
    norms
        Shape (row, y, x): the squared norms of the cells.
    """
    cells = features.shape[1] * features.shape[2]
    rows = max(_LEAST_ROWS, 1 << max(0, (_CELLS_AT_ONCE // cells).bit_length() - 1))
    return tuple(
        _tile(features[start : start + rows], norms[start : start + rows])
        for start in range(0, len(features), rows)
    )


def _tile(stored: torch.Tensor, norms: torch.Tensor) -> Tile:
    planes = stored.permute(1, 2, 0, 3)
    exact = torch.empty(planes.shape, dtype=torch.float32).copy_(planes)
    zero = 128 if float(exact.min()) >= 0 else 0
    largest = exact.abs().amax(dim=3)
    steps = largest / (127 + zero)
    exact.div_(torch.where(steps > 0, steps, torch.inf)[..., None])
    levels = exact.round().clamp_(-127, 127 + zero)
    values = levels.sub(zero).to(torch.int8)
    length = levels.square().sum(dim=3, dtype=torch.float64).clamp_(min=1)
    fitted = (exact * levels).sum(dim=3, dtype=torch.float64) / length  # about 1
    scales = (fitted * steps).to(torch.float32)
    rest = exact.sub_(levels.mul_(fitted.to(torch.float32)[..., None])).square_()
    off = rest.sum(dim=3, dtype=torch.float64).mul_(steps.double() ** 2)
    squared = norms.permute(1, 2, 0).to(torch.float64).contiguous()
    # Of a value x, what is computed to be lost is off by less than 2⁻²² |x|, and what follows by
    # far less than 2⁻¹⁰ of itself. The scale is rounded, so what is lost has a part along the
    # kept cell after all, less than 2⁻²¹ of it, which `vfs_ops.kernel.compact_pass` adds.
    enlarged = off.sqrt_().mul_(1 + 2.0**-10).add_(squared.sqrt(), alpha=2.0**-20).square_()
    share = torch.where(squared > 0, enlarged / squared, 0).sqrt_().amax(dim=(0, 1))
    return Tile(values, scales, zero, squared, enlarged, share)


def compact_bytes(images: int, cells: int, channels: int) -> int:
    """Return how many bytes the compact form takes; 0 where it does not pay."""
    return images * (cells * (channels + 4 + 8 + 8) + 8) if compact_pays(channels) else 0


@cache
def compact_pays(channels: int) -> bool:
    """Tell whether this machine has fast products of int8, and torch computes them right.

    The processor's features decide, not a stopwatch: it would be wrong for the life of a process
    that begins in a busy moment.
    """
    if channels not in _CHANNELS or not any(map(has, _FAST)):
        return False
    made = torch.Generator().manual_seed(0)
    cells, columns = (
        torch.randint(-128, 128, (size, channels), dtype=torch.int8, generator=made)
        for size in (64, 80)
    )
    exact = cells.long() @ columns.T.long()
    return torch.equal(torch._int_mm(cells, columns[:16].T).long(), exact[:, :16]) and torch.equal(
        torch._int_mm(columns, cells.T).long(), exact.T
    )
