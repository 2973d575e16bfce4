"""One shard of features as bytes, in Zarr's sharding codec (Zarr v3, ``sharding_indexed``).

A shard is its chunks one after the other, then an index of (offset, length) per chunk as
little-endian uint64, then the CRC-32C of that index. Chunks lie along the image axis in order and
without gaps. Chunks wholly beyond the last image are absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from crc32c import crc32c
from numcodecs import Zstd
from numpy.typing import NDArray

from vfs_ops.caches.checksums import checksums as checksums_of
from vfs_ops.caches.plans import Plan
from vfs_ops.errors import DamagedError

_ABSENT: Final = np.uint64(2**64 - 1)
_ZSTD_LEVEL: Final = 1
_CRC_BYTES: Final = 4


def index_bytes(plan: Plan) -> int:
    """Return the length of a shard's index at its end, checksum included."""
    return 16 * plan.chunks_per_shard + _CRC_BYTES


def decoded_bytes(plan: Plan) -> int:
    """Return the most bytes that a shard's features decode to, padding included."""
    return plan.images_per_shard * plan.image_bytes


def most_encoded_bytes(plan: Plan) -> int:
    """Return the most bytes that a stored shard of features has."""
    return plan.chunks_per_shard * _most_chunk_bytes(plan) + index_bytes(plan)


def _most_chunk_bytes(plan: Plan) -> int:
    size = plan.images_per_chunk * plan.image_bytes
    # zstd's own bound is below this
    return size if plan.codec == "none" else size + size // 128 + 1024


def encode_features(stored: NDArray[np.floating], plan: Plan) -> bytes:
    """Encode the features of one shard.

    Parameters
    ----------
    stored
        Shape (image, y, x, channel), of the plan's dtype; at most ``plan.images_per_shard`` images.

    Returns
    -------
    bytes
        The same for equal input, whoever encodes it.
    """
    per_chunk = plan.images_per_chunk
    index = np.full((plan.chunks_per_shard, 2), _ABSENT, dtype="<u8")
    little = np.ascontiguousarray(stored, dtype=np.dtype(plan.dtype).newbyteorder("<"))
    flat, size = little.reshape(-1).view(np.uint8), per_chunk * plan.image_bytes
    parts: list[bytes | memoryview] = []
    offset = 0
    for number, start in enumerate(range(0, flat.size, size)):
        chunk = flat[start : start + size]
        chunk = np.pad(chunk, (0, size - chunk.size)) if chunk.size < size else chunk
        encoded = Zstd(level=_ZSTD_LEVEL).encode(chunk) if plan.codec == "zstd" else chunk.data
        index[number] = offset, len(encoded)
        offset += len(encoded)
        parts.append(encoded)
    table = index.tobytes()
    return b"".join([*parts, table, crc32c(table).to_bytes(_CRC_BYTES, "little")])


def decode_index(tail: bytes, images: int, plan: Plan, what: str) -> NDArray[np.int64]:
    """Check a shard's index and return where its chunks lie.

    Parameters
    ----------
    tail
        The last `index_bytes` bytes of the shard.
    images
        Images in this shard.
    what
        The shard's name for messages.

    Returns
    -------
    ndarray
        Shape (chunk, 2): offset and length in bytes of each chunk that is present.

    Raises
    ------
    DamagedError
        If the checksum is wrong, or chunks are missing, out of order or of impossible length.
    """
    table = tail[:-_CRC_BYTES]
    if len(tail) != index_bytes(plan) or crc32c(table) != int.from_bytes(
        tail[-_CRC_BYTES:], "little"
    ):
        raise DamagedError(f"{what}: the index fails its checksum; run verify on this cache")
    count = -(-images // plan.images_per_chunk)
    whole = np.frombuffer(table, "<u8").reshape(-1, 2)
    used = whole[:count]
    largest = _most_chunk_bytes(plan)
    lengths = used[:, 1]
    ends = np.cumsum(np.minimum(lengths, np.uint64(largest + 1)))
    sound = (
        (lengths > 0).all()
        and (lengths <= largest).all()
        and (used[1:, 0] == ends[:-1]).all()
        and (count == 0 or used[0, 0] == 0)
        and (whole[count:] == _ABSENT).all()
    )
    if plan.codec == "none":
        sound = sound and bool((lengths == largest).all())
    if not sound:
        raise DamagedError(f"{what}: the index does not fit the plan; run verify on this cache")
    return used.astype(np.int64)


def chunk_checksums(data: bytes, images: int, plan: Plan, what: str) -> tuple[int, ...]:
    """Return the CRC-32C of every chunk of a shard, as it is stored.

    Raises
    ------
    DamagedError
        If the shard's index does not fit the plan.
    """
    index = decode_index(data[-index_bytes(plan) :], images, plan, what)
    return tuple(crc32c(data[offset : offset + length]) for offset, length in index.tolist())


def decode_chunk(
    data: bytes | memoryview, checksum: int, plan: Plan, what: str
) -> NDArray[np.floating]:
    """Decode one chunk into shape (image, y, x, channel), padding included.

    Raises
    ------
    DamagedError
        If its checksum differs, or it does not decode to exactly the size that the plan says; no
        more is ever allocated.
    """
    _check(data, checksum, what)
    chunk = np.empty((plan.images_per_chunk, *plan.image_shape), plan.dtype)
    _decode_into(chunk.data.cast("B"), data, plan, what)
    return chunk


def decode_features(
    data: bytes | NDArray[np.uint8],
    images: int,
    plan: Plan,
    what: str,
    checksums: Sequence[int] | None = None,
    into: NDArray[np.uint8] | None = None,
) -> NDArray[np.floating]:
    """Decode a whole shard.

    Parameters
    ----------
    data
        The stored object.
    images
        Images in this shard.
    what
        The shard's name for messages.
    checksums
        CRC-32C of every chunk, from the shard's receipt; not compared if there is none yet.
    into
        Memory for what a compressed shard decodes to, at least `decoded_bytes` of it; fresh
        memory if not given.

    Returns
    -------
    ndarray
        Shape (images, y, x, channel), dtype of the plan; on the memory of `data` where the shard
        is not compressed.

    Raises
    ------
    DamagedError
        If the shard is truncated, does not fit the plan, or a checksum differs.
    """
    stored = np.frombuffer(data, np.uint8)
    index = decode_index(stored[-index_bytes(plan) :].tobytes(), images, plan, what)
    end = int(index[-1].sum())
    if end + index_bytes(plan) != len(stored):
        raise DamagedError(f"{what}: {len(stored)} bytes do not fit its index; run verify")
    if checksums is not None:
        check_chunks(stored, index, checksums, what)
    shape = (len(index) * plan.images_per_chunk, *plan.image_shape)
    if plan.codec == "none":
        dtype = np.dtype(plan.dtype).newbyteorder("<")
        return stored[:end].view(dtype).reshape(shape)[:images]
    size = plan.images_per_chunk * plan.image_bytes
    memory = np.empty(len(index) * size, np.uint8) if into is None else into[: len(index) * size]
    features, target, source = memory.view(plan.dtype).reshape(shape), memory.data, stored.data
    for number, (offset, length) in enumerate(index.tolist()):
        place = target[number * size : (number + 1) * size]
        _decode_into(place, source[offset : offset + length], plan, what)
    return features[:images]


def check_chunks(
    stored: NDArray[np.uint8], chunks: NDArray[np.int64], checksums: Sequence[int], what: str
) -> None:
    """Compare chunks, given by offset and length, with their CRC-32C.

    Raises
    ------
    DamagedError
        If one differs.
    """
    if len(chunks) and (chunks[:, 1] == chunks[0, 1]).all():  # they lie without gaps
        first, size = chunks[0].tolist()
        found = checksums_of(stored[first : first + len(chunks) * size], size)
        if not np.array_equal(found, checksums):
            raise _fails(what)
        return
    for (offset, length), checksum in zip(chunks.tolist(), checksums, strict=True):
        _check(stored.data[offset : offset + length], checksum, what)


def _check(data: bytes | memoryview, checksum: int, what: str) -> None:
    if crc32c(data) != checksum:
        raise _fails(what)


def _fails(what: str) -> DamagedError:
    return DamagedError(f"{what}: a chunk fails its checksum; run verify on this cache")


def _decode_into(target: memoryview, data: bytes | memoryview, plan: Plan, what: str) -> None:
    if plan.codec == "none":
        if len(data) != len(target):
            raise DamagedError(f"{what}: a chunk has {len(data)} bytes, not {len(target)}")
        target[:] = data
        return
    if _zstd_content_size(data) != len(target):
        raise DamagedError(f"{what}: a chunk decodes to another size; run verify on this cache")
    try:
        Zstd().decode(bytes(data), out=target)
    except (RuntimeError, ValueError) as error:
        raise DamagedError(f"{what}: a chunk does not decode ({error}); run verify") from error


def _zstd_content_size(data: bytes | memoryview) -> int | None:
    """Read the decoded size from a Zstandard frame header (RFC 8878, section 3.1.1.1)."""
    if len(data) < 5 or bytes(data[:4]) != b"\x28\xb5\x2f\xfd":
        return None
    descriptor = data[4]
    single_segment = descriptor >> 5 & 1
    start = 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3]
    length = (single_segment, 2, 4, 8)[descriptor >> 6]
    if length == 0 or len(data) < start + length:
        return None
    size = int.from_bytes(data[start : start + length], "little")
    return size + 256 if length == 2 else size
