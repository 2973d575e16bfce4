import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import make_plan

from vfs_ops.caches.plans import (
    BATCH_SIZE,
    CHUNK_BYTES,
    MAX_IMAGES_PER_SHARD,
    MAX_SHARD_BYTES,
    SHARD_BYTES,
    Plan,
    choose_sizes,
)
from vfs_ops.errors import DamagedError, NewerFormatError, SpecError, UnsafeMetadataError


def test_shards_cover_every_row_once():
    plan = make_plan()
    rows = [row for shard in range(plan.shard_count) for row in plan.shard_rows(shard)]
    assert rows == list(range(100))
    assert [len(plan.shard_rows(shard)) for shard in range(4)] == [32, 32, 32, 4]


def test_document_round_trip_through_json():
    plan = make_plan()
    assert Plan.from_document(json.loads(json.dumps(plan.document()))) == plan


@pytest.mark.parametrize(
    "changes",
    [
        {"images": 0},
        {"images": True},
        {"images_per_shard": 33},
        {"images_per_shard": 8},  # less than a batch
        {"images_per_chunk": 64},
        {"images_per_chunk": 0},
        {"threads": 0},
        {"threads": -1},
        {"threads": True},
        {"threads": "2"},
        {"threads": 1 << 20},  # that a builder would start
        {"codec": "pickle"},
        {"dtype": "object"},
        {"grid": (3, -4)},
        {"channels": 1 << 41},
        {"images_per_shard": 1 << 30},  # a shard to exhaust a reader's memory
        {"cache": "../../etc"},
        {"images": 1 << 31, "images_per_shard": 1, "images_per_chunk": 1, "batch_size": 1},
        {"weights": 5},
        {"versions": ["torch"]},
        {"versions": {"torch": 2}},
        {"sample_ratio": "1"},
    ],
)
def test_impossible_plans_are_refused(changes):
    with pytest.raises(UnsafeMetadataError, match="build it again"):
        make_plan(**changes)


def test_fields_of_later_versions_are_left_out_and_missing_ones_refused():
    document = json.loads(json.dumps(make_plan().document()))
    assert Plan.from_document({**document, "later": 1}) == make_plan()
    del document["threads"]
    assert Plan.from_document(document) == make_plan(threads=None)
    del document["codec"]
    with pytest.raises(UnsafeMetadataError, match="codec"):
        Plan.from_document(document)


def test_other_formats_and_kinds_are_refused():
    document = make_plan().document()
    with pytest.raises(DamagedError, match="receipt"):
        Plan.from_document({**document, "kind": "receipt"})
    with pytest.raises(NewerFormatError, match="upgrade"):
        Plan.from_document({**document, "format": 2})


@given(image_bytes=st.integers(1, MAX_SHARD_BYTES))
def test_sizes_are_powers_of_two_within_their_bounds(image_bytes):
    shard, chunk, batch = choose_sizes(image_bytes)
    for number in (shard, chunk, batch):
        assert number & (number - 1) == 0
        assert 1 <= number <= shard <= MAX_IMAGES_PER_SHARD
    assert shard % batch == 0
    assert shard * image_bytes <= SHARD_BYTES or shard == batch
    assert shard * image_bytes <= MAX_SHARD_BYTES
    assert chunk * image_bytes <= CHUNK_BYTES or chunk == 1
    assert batch == BATCH_SIZE or 2 * batch * image_bytes > MAX_SHARD_BYTES


def test_a_map_that_fits_no_shard_is_refused():
    with pytest.raises(SpecError, match="1024 MiB"):
        choose_sizes(MAX_SHARD_BYTES + 1)


def test_plans_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_plan().images = 3
