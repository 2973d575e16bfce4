import dataclasses
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makers import make_plan

from vfs_ops.caches.receipts import Receipt, decode_receipts, encode_receipts
from vfs_ops.errors import DamagedError, NewerFormatError

TWO = make_plan(images=100, images_per_shard=64)


def make_receipt(**changes):
    values = {
        "shard": 2,
        "start": 64,
        "stop": 96,
        "inputs": "1" * 64,
        "features": "2" * 64,
        "sq_norm": "3" * 64,
        "valid": "4" * 64,
        "feature_bytes": 4711,
        "chunk_checksums": (1, (1 << 32) - 1),
        "invalid": ((65, "truncated"), (80, "no image")),
        "seconds": 1.25,
        "host": "node",
        "finished": "2026-01-01T00:00:00+00:00",
    }
    return Receipt(**{**values, **changes})


def test_single_receipts_round_trip():
    assert Receipt.decode(make_receipt().encode()) == make_receipt()


def test_all_receipts_round_trip_in_order_of_shards():
    first = make_receipt(shard=0, start=0, stop=64, invalid=())
    assert list(decode_receipts(encode_receipts([first, make_receipt()]), TWO)) == [
        first,
        make_receipt(),
    ]


def test_the_sizes_of_all_shards_are_read_without_receipts():
    some = [make_receipt(shard=n, start=64 * n, stop=64 * n + 64, invalid=()) for n in range(2500)]
    some = [dataclasses.replace(one, feature_bytes=10 + one.shard) for one in some]
    table = decode_receipts(encode_receipts(some), make_plan(images=64 * 2500, images_per_shard=64))
    assert table.feature_bytes().tolist() == [10 + shard for shard in range(2500)]
    assert [table[2047], table[-1]] == [some[2047], some[-1]]


def test_fields_of_later_versions_are_left_out():
    later = make_receipt().encode().replace(b'"shard":2', b'"shard":2,"mood":"good"')
    assert Receipt.decode(later) == make_receipt()


def test_more_than_a_plan_allows_is_not_decoded():
    with pytest.raises(DamagedError, match="3 receipts, not 2"):
        decode_receipts(encode_receipts([make_receipt()] * 3), TWO)


def test_a_long_text_in_every_receipt_is_not_spelled_out():
    loud = make_receipt(invalid=tuple((64 + place, "a" * 10**6) for place in range(32)))
    plan = make_plan(images=64 * 40, images_per_shard=64)
    with pytest.raises(DamagedError, match="decodes to more"):
        decode_receipts(encode_receipts([loud] * 40), plan)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b'{"format": 1}', b"[" * 100_000, b"\xff\xfe"]
)
def test_what_is_no_receipt_is_damaged(data):
    with pytest.raises(DamagedError):
        Receipt.decode(data)


def test_what_is_no_table_is_damaged():
    whole = encode_receipts([make_receipt()])
    for data in (b"", b"PAR1", whole[:100], whole[:-10]):
        with pytest.raises(DamagedError):
            decode_receipts(data, TWO)


def test_newer_receipts_are_refused():
    with pytest.raises(NewerFormatError):
        Receipt.decode(make_receipt().encode().replace(b'"format":1', b'"format":2'))


@pytest.mark.parametrize(
    "changes",
    [
        {"stop": 64},
        {"features": "x"},
        {"invalid": ((96, "outside"),)},
        {"shard": -1},
        {"chunk_checksums": (1 << 32,)},
        {"chunk_checksums": ("a",)},
        {"seconds": "long"},
        {"host": None},
        {"finished": 7},
    ],
)
def test_impossible_receipts_are_refused(changes):
    with pytest.raises(DamagedError):
        dataclasses.replace(make_receipt(), **changes)


def test_a_table_is_a_sequence_of_receipts():
    first = make_receipt(shard=0, start=0, stop=64, invalid=())
    table = decode_receipts(encode_receipts([first, make_receipt()]), TWO)
    assert (len(table), table[0], table[-1]) == (2, first, make_receipt())
    assert table[1:] == (make_receipt(),)
    with pytest.raises(IndexError):
        table[2]


def test_receipts_that_tell_no_device_are_read():
    one = make_plan(images=32, images_per_shard=32)
    receipt = make_receipt(shard=0, start=0, stop=32, invalid=(), device="cpu")
    table = pq.read_table(pa.BufferReader(encode_receipts([receipt]))).drop_columns("device")
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    assert decode_receipts(buffer.getvalue(), one)[0] == dataclasses.replace(receipt, device="")
    older = receipt.encode().replace(b'"device":"cpu",', b"")
    assert Receipt.decode(older).device == ""
