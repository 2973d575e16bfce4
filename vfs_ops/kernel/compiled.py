"""The loop that scores stored feature maps, in LLVM's language (`vfs_ops.kernel.machine_code`).

Feature maps stay as stored until they are in registers: some channels of a cell are converted to
float32 there, and multiplied with the columns that meet the cell in some window. The products are
added to the sums of these windows, each of as many numbers side by side as a register holds; only
a finished sum is added up across. So nothing is written that is not a result, and a product of a
cell and a column that no window needs is not computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vfs_ops.kernel.machine_code import NUMBER, POINTER, has, lines, translated
from vfs_ops.kernel.taps import TAPS, Taps

_AHEAD: Final = 2048
"""Bytes of an image that are asked for before they are needed: as many as one or two cells. The
processor by itself does not follow several images at once."""


@dataclass(frozen=True)
class Registers:
    """How the loop uses a processor's registers."""

    lanes: int
    """Float32 numbers in one."""
    images: int
    """Multiplied at once: with `TAPS` columns each, all their sums fit the registers."""


@cache
def registers() -> Registers | None:
    """Return what suits this processor; None if it cannot convert float16 by itself."""
    if not (has("f16c") and has("fma")):
        return None
    return Registers(16, 4) if has("avx512f") else Registers(8, 2)


def add_up(
    stored: NDArray[np.floating],
    rows: NDArray[np.int64],
    taps: Taps,
    held: Registers,
    scratch: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    """Compute the sums of products of all windows of some images.

    Parameters
    ----------
    stored
        Shape (row, y, x, channel), float16 or float32, contiguous; the channels are a multiple of
        `held.lanes`.
    rows
        Which images, shape (image,).
    taps
        The queries.
    held
        What `registers` returned.
    scratch
        Shape (scratch_values(taps, held),).
    sums
        Shape (sum, image), to be filled.
    """
    if not len(rows):  # the loop begins before it looks
        return
    starts = rows * stored[0].size
    _loop(held, stored.dtype.str)(
        stored.ctypes.data,
        starts.ctypes.data,
        len(starts),
        taps.columns.ctypes.data,
        taps.columns.shape[1],
        taps.pieces.ctypes.data,
        len(taps.pieces),
        taps.table.ctypes.data,
        scratch.ctypes.data,
        sums.ctypes.data,
        taps.sums,
    )


def scratch_values(taps: Taps, held: Registers) -> int:
    """Return how many float32 numbers the sums of the images at work take."""
    return taps.sums * held.images * held.lanes


@cache
def _loop(held: Registers, dtype: str) -> Callable[..., None]:
    images, columns, pieces = (POINTER, POINTER, NUMBER), (POINTER, NUMBER), (POINTER, NUMBER)
    arguments = (*images, *columns, *pieces, POINTER, POINTER, POINTER, NUMBER)
    return translated(_assembly(held, "half" if dtype == "<f2" else "float"), "add_up", arguments)


def _assembly(held: Registers, element: str) -> str:
    """Return the loop for values stored as `element`, half or float."""
    every, lanes = range(held.images), held.lanes
    begin, cells = [], []
    for image in every:
        begin += [
            f"%number{image} = add i64 %image, {image}",  # the last one again, where there is none
            f"%chosen{image} = call i64 @llvm.smin.i64(i64 %number{image}, i64 %last)",
            f"%where{image} = getelementptr i64, ptr %starts, i64 %chosen{image}",
            f"%start{image} = load i64, ptr %where{image}",
        ]
        cells += [
            f"%begin{image} = add i64 %start{image}, %cell",
            f"%cell{image} = getelementptr {element}, ptr %stored, i64 %begin{image}",
        ]
    finish = []
    for image in every:
        finish += [
            f"%place{image} = add i64 %of_sum, {image * lanes}",
            f"%from{image} = getelementptr float, ptr %scratch, i64 %place{image}",
            f"%lanes{image} = load <{lanes} x float>, ptr %from{image}, align 4",
            f"%total{image} = call reassoc float @llvm.vector.reduce.fadd.v{lanes}f32"
            f"(float 0.0, <{lanes} x float> %lanes{image})",
            f"%to{image} = add i64 %row, %chosen{image}",
            f"%result{image} = getelementptr float, ptr %sums, i64 %to{image}",
            f"store float %total{image}, ptr %result{image}",
        ]
    cases = " ".join(f"i64 {taps}, label %tile{taps}" for taps in range(1, TAPS))
    tiles = "\n".join(_tile(held, element, taps) for taps in range(1, TAPS + 1))
    return f"""
declare i64 @llvm.smin.i64(i64, i64)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare float @llvm.vector.reduce.fadd.v{lanes}f32(float, <{lanes} x float>)

define void @add_up(ptr %stored, ptr %starts, i64 %images, ptr %columns, i64 %channels,
                    ptr %pieces, i64 %count, ptr %table, ptr %scratch, ptr %sums, i64 %windows) {{
entry:
  %last = sub i64 %images, 1
  %bytes = mul i64 %windows, {4 * lanes * held.images}
  br label %images_begin
images_begin:
  %image = phi i64 [0, %entry], [%next_image, %images_end]
  {lines(begin)}
  call void @llvm.memset.p0.i64(ptr %scratch, i8 0, i64 %bytes, i1 false)
  br label %pieces_begin
pieces_begin:
  %piece = phi i64 [0, %images_begin], [%next_piece, %pieces_end]
  %of_piece = mul i64 %piece, 3
  %cell_at = getelementptr i64, ptr %pieces, i64 %of_piece
  %taps_at = getelementptr i64, ptr %cell_at, i64 1
  %first_at = getelementptr i64, ptr %cell_at, i64 2
  %cell = load i64, ptr %cell_at
  %taps = load i64, ptr %taps_at
  %first = load i64, ptr %first_at
  %of_first = mul i64 %first, 2
  %pairs = getelementptr i64, ptr %table, i64 %of_first
  {lines(cells)}
  switch i64 %taps, label %tile{TAPS} [{cases}]
{tiles}
pieces_end:
  %next_piece = add i64 %piece, 1
  %more_pieces = icmp slt i64 %next_piece, %count
  br i1 %more_pieces, label %pieces_begin, label %windows_begin
windows_begin:
  %window = phi i64 [0, %pieces_end], [%next_window, %windows_begin]
  %of_sum = mul i64 %window, {lanes * held.images}
  %row = mul i64 %window, %images
  {lines(finish)}
  %next_window = add i64 %window, 1
  %more_windows = icmp slt i64 %next_window, %windows
  br i1 %more_windows, label %windows_begin, label %images_end
images_end:
  %next_image = add i64 %image, {held.images}
  %more_images = icmp slt i64 %next_image, %images
  br i1 %more_images, label %images_begin, label %end
end:
  ret void
}}
"""


def _tile(held: Registers, element: str, taps: int) -> str:
    """Return the part that multiplies a cell of some images with `taps` columns."""
    name, vector, many = f"tile{taps}", f"<{held.lanes} x float>", f"<{held.lanes} x {element}>"
    both = [(tap, image) for tap in range(taps) for image in range(held.images)]
    load, loop, store = [], [], []
    for tap in range(taps):
        load += [
            f"%{name}.pair{tap} = getelementptr i64, ptr %pairs, i64 {2 * tap}",
            f"%{name}.of{tap} = load i64, ptr %{name}.pair{tap}",
            f"%{name}.column{tap} = getelementptr float, ptr %columns, i64 %{name}.of{tap}",
            f"%{name}.other{tap} = getelementptr i64, ptr %{name}.pair{tap}, i64 1",
            f"%{name}.sum{tap} = load i64, ptr %{name}.other{tap}",
            f"%{name}.from{tap} = mul i64 %{name}.sum{tap}, {held.lanes * held.images}",
        ]
    for tap, image in both:
        load += [
            f"%{name}.at{tap}.{image} = add i64 %{name}.from{tap}, {image * held.lanes}",
            f"%{name}.to{tap}.{image} = "
            f"getelementptr float, ptr %scratch, i64 %{name}.at{tap}.{image}",
            f"%{name}.before{tap}.{image} = load {vector}, ptr %{name}.to{tap}.{image}, align 4",
        ]
        loop.append(
            f"%{name}.held{tap}.{image} = phi {vector} "
            f"[%{name}.before{tap}.{image}, %{name}], [%{name}.after{tap}.{image}, %{name}.loop]"
        )
    for image in range(held.images):
        loop += [
            f"%{name}.p{image} = getelementptr {element}, ptr %cell{image}, i64 %{name}.channel",
            f"%{name}.s{image} = load {many}, ptr %{name}.p{image}, align 2",
            f"%{name}.v{image} = fpext {many} %{name}.s{image} to {vector}"
            if element == "half"
            else f"%{name}.v{image} = fadd {vector} %{name}.s{image}, zeroinitializer",
            f"%{name}.f{image} = getelementptr i8, ptr %{name}.p{image}, i64 {_AHEAD}",
            f"call void @llvm.prefetch.p0(ptr %{name}.f{image}, i32 0, i32 3, i32 1)",
        ]
    for tap in range(taps):
        loop += [
            f"%{name}.q{tap} = getelementptr float, ptr %{name}.column{tap}, i64 %{name}.channel",
            f"%{name}.c{tap} = load {vector}, ptr %{name}.q{tap}, align 4",
        ]
    for tap, image in both:
        end = f"{tap}.{image}"
        loop += [
            f"%{name}.product{end} = fmul contract {vector} %{name}.v{image}, %{name}.c{tap}",
            f"%{name}.after{end} = fadd contract {vector} %{name}.held{end}, %{name}.product{end}",
        ]
        store.append(f"store {vector} %{name}.after{end}, ptr %{name}.to{end}, align 4")
    return f"""{name}:
  {lines(load)}
  br label %{name}.loop
{name}.loop:
  %{name}.channel = phi i64 [0, %{name}], [%{name}.next, %{name}.loop]
  {lines(loop)}
  %{name}.next = add i64 %{name}.channel, {held.lanes}
  %{name}.more = icmp slt i64 %{name}.next, %channels
  br i1 %{name}.more, label %{name}.loop, label %{name}.end
{name}.end:
  {lines(store)}
  br label %pieces_end"""
