"""CRC-32C of chunks of one length, all in one call that holds no lock of the interpreter's.

The processor's instruction takes eight bytes in three steps and can begin one at each, so three
chunks are read side by side. Castagnoli, Bräuer, Herrmann, "Optimization of Cyclic Redundancy-Check
Codes with 24 and 32 Parity Bits" (1993) is where the polynomial comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

_AT_ONCE: Final = 3
_WORD: Final = 8
_AHEAD: Final = 2048
"""Bytes that are asked for before they are needed."""


def checksums(data: NDArray[np.uint8], size: int) -> NDArray[np.int64]:
    """Return the CRC-32C of chunks of `size` bytes that follow each other, shape (chunk,)."""
    from vfs_ops.kernel.machine_code import has

    count = len(data) // size
    if not count:  # the compiled loop begins before it looks
        return np.empty(0, np.int64)
    if size % _WORD or not has("sse4.2"):
        view = data.data
        parts = (view[start : start + size] for start in range(0, count * size, size))
        return np.fromiter(map(crc32c, parts), np.int64, count)
    found = np.empty(count, np.int64)
    _side_by_side()(data.ctypes.data, size // _WORD, count, found.ctypes.data)
    return found


@cache
def _side_by_side() -> Callable[..., None]:
    from vfs_ops.kernel.machine_code import NUMBER, POINTER, lines, translated

    begin, held, step, end = [], [], [], []
    for one in range(_AT_ONCE):
        begin += [
            f"%number{one} = add i64 %chunk, {one}",  # the last one again, where there is none
            f"%chosen{one} = call i64 @llvm.smin.i64(i64 %number{one}, i64 %last)",
            f"%of{one} = mul i64 %chosen{one}, %words",
            f"%chunk{one} = getelementptr i64, ptr %data, i64 %of{one}",
            f"%to{one} = getelementptr i64, ptr %found, i64 %chosen{one}",
        ]
        held.append(
            f"%held{one} = phi i64 [4294967295, %chunks_begin], [%after{one}, %words_begin]"
        )
        step += [
            f"%at{one} = getelementptr i64, ptr %chunk{one}, i64 %word",
            f"%value{one} = load i64, ptr %at{one}, align 1",
            f"%ahead{one} = getelementptr i8, ptr %at{one}, i64 {_AHEAD}",
            f"call void @llvm.prefetch.p0(ptr %ahead{one}, i32 0, i32 3, i32 1)",
            f"%after{one} = call i64 @llvm.x86.sse42.crc32.64.64(i64 %held{one}, i64 %value{one})",
        ]
        end += [
            f"%checksum{one} = xor i64 %after{one}, 4294967295",
            f"store i64 %checksum{one}, ptr %to{one}",
        ]
    assembly = f"""
declare i64 @llvm.smin.i64(i64, i64)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
declare i64 @llvm.x86.sse42.crc32.64.64(i64, i64)

define void @checksums(ptr %data, i64 %words, i64 %count, ptr %found) {{
entry:
  %last = sub i64 %count, 1
  br label %chunks_begin
chunks_begin:
  %chunk = phi i64 [0, %entry], [%next_chunk, %chunks_end]
  {lines(begin)}
  br label %words_begin
words_begin:
  %word = phi i64 [0, %chunks_begin], [%next_word, %words_begin]
  {lines(held)}
  {lines(step)}
  %next_word = add i64 %word, 1
  %more_words = icmp slt i64 %next_word, %words
  br i1 %more_words, label %words_begin, label %chunks_end
chunks_end:
  {lines(end)}
  %next_chunk = add i64 %chunk, {_AT_ONCE}
  %more_chunks = icmp slt i64 %next_chunk, %count
  br i1 %more_chunks, label %chunks_begin, label %end
end:
  ret void
}}
"""
    return translated(assembly, "checksums", (POINTER, NUMBER, NUMBER, POINTER))
