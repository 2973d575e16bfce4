"""Datasets that grew, shrank or changed: what is read, copied and computed again."""

import numpy as np
import pytest
from makers import make_extractor, write_photos

from vfs_ops.builds import acceptance
from vfs_ops.builds.builder import build, plan_build
from vfs_ops.builds.verification import verify
from vfs_ops.caches.layout import cache_key, features_key, receipt_key
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.store.workspace import Workspace

pytestmark = pytest.mark.usefixtures("small_shards")


@pytest.fixture
def folder(tmp_path):
    write_photos(tmp_path / "images", 40)
    return tmp_path / "images"


@pytest.fixture
def computed(monkeypatch):
    """Count the images that go through a model, by batch; none are computed again to verify."""
    monkeypatch.setattr(acceptance, "SAMPLE_IMAGES", 0)
    counted, features = [], FeatureExtractor.features

    def count(self, pixels):
        counted.append(len(pixels))
        return features(self, pixels)

    monkeypatch.setattr(FeatureExtractor, "features", count)
    return counted


def uris(dataset):
    return dataset.table(["uri"])["uri"].to_pylist()


def rebuilt(dataset, **options):
    """Build, and return the caches with the actions taken, by shard of the first layer."""
    shards = []
    caches = build(dataset, make_extractor(), on_shard=shards.append, **options)
    assert [verify(cache) for cache in caches] == [[]] * len(caches)
    return caches, {one.shard: one.action for one in shards if one.cache == caches[0].id}


def test_new_images_come_behind_the_old_ones(folder, workspace):
    first = ingest(str(folder), workspace)
    write_photos(folder, 10, seed=1, first=100)
    (folder / "even" / "0000a.png").write_bytes((folder / "even" / "0002.png").read_bytes())
    grown = ingest(str(folder), workspace, previous=first)
    assert uris(grown)[:40] == uris(first)
    assert uris(grown)[40:] == sorted(set(uris(grown)) - set(uris(first)))
    np.testing.assert_array_equal(grown.digests()[:40], first.digests())
    assert ingest(str(folder), workspace, previous=grown).id == grown.id
    assert grown.preview(45)


def test_a_dataset_that_grew_computes_what_is_new(folder, workspace, computed):
    first = ingest(str(folder), workspace)
    old, actions = rebuilt(first)
    assert actions == dict.fromkeys(range(3), "computed")
    write_photos(folder, 30, seed=1, first=100)
    grown = ingest(str(folder), workspace, previous=first)
    planned = plan_build(grown, make_extractor())
    assert [cache.copied_shards for cache in planned] == [2, 2]
    del computed[:]
    notices = []
    new, actions = rebuilt(grown, on_notice=notices.append)
    # the third shard was full of 8 images, and now holds 16
    assert actions == {0: "copied", 1: "copied", 2: "computed", 3: "computed", 4: "computed"}
    assert sum(computed) - 1 == 70 - 32  # one is the probe
    assert len([text for text in notices if "2 of 5 shards were copied" in text]) == 2
    for cache, earlier in zip(new, old, strict=True):
        for shard in range(2):
            theirs, ours = earlier.receipts[shard], cache.receipts[shard]
            assert (ours.inputs, ours.features) == (theirs.inputs, theirs.features)
        alone = Workspace.at(f"{workspace.url}-alone")
        [same] = build(grown, make_extractor([cache.spec.extractor.layer]), workspace=alone)
        for shard in range(5):
            key = features_key(cache.id, shard)
            assert alone.read(key) == workspace.read(key)
        assert same.id == cache.id


def test_what_an_unfinished_cache_holds_is_copied_too(folder, workspace, computed):
    first = ingest(str(folder), workspace)
    [planned] = plan_build(first, make_extractor(["0"]))
    build(first, make_extractor(["0"]))
    workspace.delete(cache_key(planned.spec.id, "complete.json"))
    workspace.delete(cache_key(planned.spec.id, "receipts.parquet"))
    workspace.delete(receipt_key(planned.spec.id, 0))
    write_photos(folder, 10, seed=1, first=100)
    grown = ingest(str(folder), workspace, previous=first)
    assert list(plan_build(grown, make_extractor(["0"]))[0].copies) == [1]


def test_sizes_and_codec_are_inherited(folder, workspace, monkeypatch):
    from vfs_ops.caches import plans

    first = ingest(str(folder), workspace)
    [cache] = build(first, make_extractor(["0"]))
    monkeypatch.setattr(plans, "MAX_IMAGES_PER_SHARD", 1024)
    write_photos(folder, 10, seed=1, first=100)
    grown = ingest(str(folder), workspace, previous=first)
    [planned] = plan_build(grown, make_extractor(["0"]))
    assert planned.plan.images_per_shard == cache.plan.images_per_shard == 16
    assert planned.plan.codec == cache.plan.codec
    [other] = plan_build(grown, make_extractor(["0"]), dtype="float32")
    assert other.plan.images_per_shard == 1024


def test_a_changed_image_stays_in_place_and_costs_its_shard(folder, workspace, computed):
    first = ingest(str(folder), workspace)
    build(first, make_extractor())
    uri = uris(first)[20]
    (folder / uri).write_bytes((folder / uris(first)[0]).read_bytes())
    changed = ingest(str(folder), workspace, previous=first)
    assert uris(changed) == uris(first)
    assert rebuilt(changed)[1] == {0: "copied", 1: "computed", 2: "copied"}


def test_a_deleted_image_leaves_no_hole_and_moves_what_is_behind(folder, workspace, computed):
    first = ingest(str(folder), workspace)
    build(first, make_extractor())
    (folder / uris(first)[20]).unlink()
    shrunk = ingest(str(folder), workspace, previous=first)
    assert uris(shrunk) == [*uris(first)[:20], *uris(first)[21:]]
    assert rebuilt(shrunk)[1] == {0: "copied", 1: "computed", 2: "computed"}


def test_a_damaged_shard_is_computed_and_not_copied(folder, workspace, computed):
    first = ingest(str(folder), workspace)
    [cache] = build(first, make_extractor(["0"]))
    data = bytearray(workspace.read(features_key(cache.id, 1)))
    data[5] ^= 1
    workspace.replace(features_key(cache.id, 1), bytes(data))
    write_photos(folder, 10, seed=1, first=100)
    grown = ingest(str(folder), workspace, previous=first)
    notices, shards = [], []
    build(grown, make_extractor(["0"]), on_shard=shards.append, on_notice=notices.append)
    assert [one.shard for one in shards if one.action == "copied"] == [0]
    assert any("shard 1 is computed and not copied" in text for text in notices)


def test_other_extractors_share_nothing(folder, workspace):
    first = ingest(str(folder), workspace)
    build(first, make_extractor(["0"]))
    write_photos(folder, 10, seed=1, first=100)
    grown = ingest(str(folder), workspace, previous=first)
    for other in (make_extractor(["2"]), make_extractor(["0"], seed=1)):
        assert [cache.copied_shards for cache in plan_build(grown, other)] == [0]
