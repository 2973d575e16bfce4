import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import make_plan

from vfs_ops.errors import NewerFormatError, UnsafeMetadataError
from vfs_ops.plans import CHUNK_BYTES, MAX_IMAGES_PER_SHARD, SHARD_BYTES, Plan, choose_sizes


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
        {"codec": "pickle"},
        {"dtype": "object"},
        {"grid": (3, -4)},
        {"channels": 1 << 41},
        {"images_per_shard": 1 << 30},  # a shard to exhaust a reader's memory
        {"cache": "../../etc"},
    ],
)
def test_impossible_plans_are_refused(changes):
    with pytest.raises(UnsafeMetadataError, match="build it again"):
        make_plan(**changes)


def test_documents_with_other_fields_or_formats_are_refused():
    document = make_plan().document()
    with pytest.raises(UnsafeMetadataError, match="extra"):
        Plan.from_document({**document, "extra": 1})
    with pytest.raises(NewerFormatError, match="upgrade"):
        Plan.from_document({**document, "format": 2})


@given(image_bytes=st.integers(1, 1 << 28), power=st.integers(0, 7))
def test_sizes_are_powers_of_two_within_their_bounds(image_bytes, power):
    batch = 1 << power
    shard, chunk = choose_sizes(image_bytes, batch)
    assert shard & (shard - 1) == 0
    assert chunk & (chunk - 1) == 0
    assert 1 <= chunk <= shard
    assert batch <= shard <= max(MAX_IMAGES_PER_SHARD, batch)
    assert shard * image_bytes <= SHARD_BYTES or shard == batch
    assert chunk * image_bytes <= CHUNK_BYTES or chunk == 1


def test_plans_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_plan().images = 3
