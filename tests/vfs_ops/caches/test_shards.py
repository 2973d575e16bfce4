import numpy as np
import pytest
import zarr
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import make_plan, random_maps
from numcodecs import Zstd
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from vfs_ops.caches.shards import (
    chunk_checksums,
    decode_chunk,
    decode_features,
    decode_index,
    encode_features,
    index_bytes,
)
from vfs_ops.errors import DamagedError

plans = st.builds(
    lambda shard, chunk, dtype, codec: make_plan(
        images_per_shard=1 << shard,
        images_per_chunk=1 << min(chunk, shard),
        batch_size=1,
        dtype=dtype,
        codec=codec,
    ),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from(["float16", "float32"]),
    st.sampled_from(["none", "zstd"]),
)


@given(plan=plans, data=st.data())
def test_round_trip_whole_and_chunk_by_chunk(plan, data):
    images = data.draw(st.integers(1, plan.images_per_shard))
    features = random_maps(plan, images)
    shard = encode_features(features, plan)
    np.testing.assert_array_equal(decode_features(shard, images, plan, "s"), features)
    index = decode_index(shard[-index_bytes(plan) :], images, plan, "s")
    checksums = chunk_checksums(shard, images, plan, "s")
    chunks = [
        decode_chunk(shard[a : a + n], checksum, plan, "s")
        for (a, n), checksum in zip(index.tolist(), checksums, strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate(chunks)[:images], features)


@given(plan=plans, data=st.data())
@settings(max_examples=25)
def test_zarr_writes_and_reads_the_same(plan, data):
    images = data.draw(st.integers(1, plan.images_per_shard))
    features = random_maps(plan, images)
    store = MemoryStore()
    array = zarr.create_array(
        store,
        shape=features.shape,
        shards=(plan.images_per_shard, *plan.image_shape),
        chunks=(plan.images_per_chunk, *plan.image_shape),
        dtype=plan.dtype,
        compressors=zarr.codecs.ZstdCodec(level=1) if plan.codec == "zstd" else None,
        config={"write_empty_chunks": True},
        fill_value=0,
    )
    array[:] = features
    theirs = store._store_dict["c/0/0/0/0"].to_bytes()
    np.testing.assert_array_equal(decode_features(theirs, images, plan, "s"), features)
    ours = default_buffer_prototype().buffer.from_bytes(encode_features(features, plan))
    store._store_dict["c/0/0/0/0"] = ours
    np.testing.assert_array_equal(array[:], features)


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_every_single_byte_change_of_the_index_is_found(codec):
    plan = make_plan(codec=codec)
    shard = bytearray(encode_features(random_maps(plan, 30), plan))
    for place in range(len(shard) - index_bytes(plan), len(shard)):
        damaged = bytearray(shard)
        damaged[place] ^= 0x10
        with pytest.raises(DamagedError, match="verify"):
            decode_features(bytes(damaged), 30, plan, "shard 7")


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("keep", [0, 1, 3, 40, -1, -20])
def test_truncated_shards_are_refused(codec, keep):
    plan = make_plan(codec=codec)
    shard = encode_features(random_maps(plan, 30), plan)
    with pytest.raises(DamagedError, match="shard 7"):
        decode_features(shard[:keep], 30, plan, "shard 7")


def test_a_shard_of_another_plan_is_refused():
    shard = encode_features(random_maps(make_plan(), 30), make_plan())
    with pytest.raises(DamagedError):
        decode_features(shard, 20, make_plan(), "s")
    with pytest.raises(DamagedError):
        decode_features(shard, 30, make_plan(channels=6), "s")


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_every_single_byte_change_of_a_chunk_is_found_by_its_checksum(codec):
    plan = make_plan(codec=codec, channels=1)
    shard = bytearray(encode_features(random_maps(plan, 30), plan))
    checksums = chunk_checksums(bytes(shard), 30, plan, "s")
    decode_features(bytes(shard), 30, plan, "s", checksums)
    for place in range(len(shard) - index_bytes(plan)):
        damaged = bytearray(shard)
        damaged[place] ^= 0x10
        with pytest.raises(DamagedError, match="checksum"):
            decode_features(bytes(damaged), 30, plan, "shard 7", checksums)


def test_checksums_are_crc_32c():
    with pytest.raises(DamagedError, match="has 9 bytes"):  # its checksum is right
        decode_chunk(b"123456789", 0xE3069283, make_plan(), "s")  # RFC 3720's polynomial
    with pytest.raises(DamagedError, match="checksum"):
        decode_chunk(b"123456789", 0xCBF43926, make_plan(), "s")  # CRC-32


def test_checksums_are_those_of_zarrs_codec():
    plan, store = make_plan(), MemoryStore()
    features = random_maps(plan, plan.images_per_shard)
    chunks = (plan.images_per_chunk, *plan.image_shape)
    zarr.create_array(
        store,
        shape=features.shape,
        chunks=chunks,
        dtype=plan.dtype,
        compressors=zarr.codecs.Crc32cCodec(),
    )[:] = features
    count = plan.images_per_shard // plan.images_per_chunk
    theirs = [store._store_dict[f"c/{number}/0/0/0"].to_bytes() for number in range(count)]
    ours = chunk_checksums(encode_features(features, plan), len(features), plan, "s")
    assert ours == tuple(int.from_bytes(chunk[-4:], "little") for chunk in theirs)


@given(st.binary(max_size=300))
def test_arbitrary_chunks_decode_or_are_damaged(data):
    plan = make_plan(codec="zstd")
    try:
        decode_chunk(data, crc32c(data), plan, "s")
    except DamagedError:
        return


def test_a_chunk_that_decodes_to_more_is_never_expanded():
    plan = make_plan(codec="zstd")
    bomb = bytes(Zstd(level=1).encode(bytes(1 << 28)))
    with pytest.raises(DamagedError, match="another size"):
        decode_chunk(bomb, crc32c(bomb), plan, "s")
    short = bytes(Zstd(level=1).encode(bytes(10)))
    with pytest.raises(DamagedError, match="another size"):
        decode_chunk(short, crc32c(short), plan, "s")
