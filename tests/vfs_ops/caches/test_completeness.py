import pytest

from vfs_ops.caches.completeness import finished_shards, read_receipt, read_receipts
from vfs_ops.caches.layout import cache_key, receipt_key
from vfs_ops.errors import DamagedError, NotFoundError


def test_receipts_are_read_in_the_order_asked_for(cache):
    found = read_receipts(cache.workspace, cache.plan, [2, 0, 3])
    assert [receipt.shard for receipt in found] == [2, 0, 3]
    assert list(read_receipts(cache.workspace, cache.plan, range(4))) == list(cache.receipts)


def test_what_is_finished_is_told_by_one_listing(cache, monkeypatch):
    cache.workspace.delete(receipt_key(cache.id, 1))
    monkeypatch.setattr(type(cache.workspace), "read", None)  # nothing may be read
    assert finished_shards(cache.workspace, cache.plan) == {0, 2, 3}


@pytest.mark.parametrize("name", ["00004.json", "000001.json", "one.json", "00001.txt"])
def test_a_receipt_of_no_shard_is_named(cache, name):
    cache.workspace.create(cache_key(cache.id, "receipts", name), b"{}")
    with pytest.raises(DamagedError, match=name):
        finished_shards(cache.workspace, cache.plan)


def test_a_receipt_that_is_missing_or_of_another_shard_is_no_receipt(cache):
    stored = cache.workspace.read(receipt_key(cache.id, 2))
    cache.workspace.replace(receipt_key(cache.id, 1), stored)
    with pytest.raises(DamagedError, match="shard 1 speaks of 2"):
        read_receipt(cache.workspace, cache.plan, 1)
    cache.workspace.delete(receipt_key(cache.id, 1))
    with pytest.raises(NotFoundError):
        list(read_receipts(cache.workspace, cache.plan, range(4)))
