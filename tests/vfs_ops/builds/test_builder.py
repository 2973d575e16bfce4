import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import make_extractor, stored_bytes, write_photos
from PIL import Image
from waiting import until

from vfs_ops.builds import acceptance
from vfs_ops.builds.builder import build, plan_build
from vfs_ops.builds.verification import verify
from vfs_ops.caches.cache import open_cache
from vfs_ops.caches.values import squared_norms
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import (
    ExtractorMismatchError,
    FeatureRangeError,
    ImageChangedError,
    IncompleteError,
    SourceError,
    StorageFullError,
)
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.models.loading import load_model
from vfs_ops.store.workspace import Workspace

pytestmark = pytest.mark.usefixtures("small_shards")


@pytest.fixture
def images_computed(monkeypatch):
    """Count the images that go through a model, by batch; none are computed again to verify."""
    monkeypatch.setattr(acceptance, "SAMPLE_IMAGES", 0)
    counted = []
    features = FeatureExtractor.features

    def count(self, pixels):
        counted.append(len(pixels))
        return features(self, pixels)

    monkeypatch.setattr(FeatureExtractor, "features", count)
    return counted


def test_a_cache_holds_what_the_model_computes(dataset, extractor):
    caches = build(dataset, extractor)
    reader = dataset.reader()
    pixels = np.stack([extractor.prepare(reader.read(row)) for row in range(dataset.count)])
    for cache, maps in zip(caches, extractor.features(pixels), strict=True):
        stored = cache.feature_maps(0, cache.count)
        np.testing.assert_allclose(stored, maps, rtol=2e-3, atol=1e-5)
        assert cache.invalid == {}
        assert cache.shard_count == 4
        for shard in range(4):
            arrays = cache.read_shard(shard)
            np.testing.assert_array_equal(arrays.features, stored[list(cache.shard_rows(shard))])
            np.testing.assert_array_equal(arrays.sq_norm, squared_norms(arrays.features))


def test_an_existing_cache_is_returned_without_any_work(dataset, extractor, images_computed):
    first = build(dataset, extractor)
    del images_computed[:]
    assert [cache.id for cache in build(dataset, extractor)] == [cache.id for cache in first]
    assert images_computed == []


def test_one_pass_serves_all_layers(dataset, images_computed):
    build(dataset, make_extractor())
    assert images_computed[:2] == [16, 1]  # the sample and the probe
    assert sum(images_computed[2:]) == dataset.count


def test_layers_built_alone_hold_the_same_bits(dataset, tmp_path):
    together, apart = Workspace.at(f"{tmp_path}/a"), Workspace.at(f"{tmp_path}/b")
    caches = build(dataset, make_extractor(), workspace=together)
    for cache, layer in zip(caches, "02", strict=True):
        [alone] = build(dataset, make_extractor([layer]), workspace=apart)
        assert stored_bytes(alone) == stored_bytes(cache)


@pytest.mark.parametrize("failing", range(8))
def test_a_full_disk_loses_nothing_and_the_rest_is_computed_once(
    dataset, extractor, tmp_path, monkeypatch, images_computed, failing
):
    undisturbed = Workspace.at(f"{tmp_path}/undisturbed")
    expected = [stored_bytes(c) for c in build(dataset, extractor, workspace=undisturbed)]
    create, count = Workspace.create, 0

    def full(self, key, data):
        nonlocal count
        if "/features/c/" in key:
            count += 1
            if count > failing:
                raise StorageFullError("no space left; free some and run again")
        return create(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "create", full)
        with pytest.raises(StorageFullError, match="run again"):
            build(dataset, extractor)
    finished = [cache.finished_shards for cache in plan_build(dataset, extractor)]
    assert sum(finished) == failing
    del images_computed[:]
    caches = build(dataset, extractor)
    images = [16, 16, 16, 12]
    missing = sum(images[shard] for shard in range(4) if min(finished) <= shard)
    assert sum(images_computed) - 1 == missing  # one is the probe
    assert [stored_bytes(cache) for cache in caches] == expected


def test_an_interrupt_keeps_finished_shards(dataset, extractor):
    def interrupt(progress):
        if progress.done >= 48:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(dataset, extractor, progress=interrupt)
    # six batches are computed, of which three may not be stored yet: one shard is, at least
    assert all(1 <= cache.finished_shards < 4 for cache in plan_build(dataset, extractor))
    names = [thread.name for thread in threading.enumerate()]
    assert [name for name in names if name.startswith(("vfs-decode", "vfs-store"))] == []


def test_a_killed_process_leaves_a_build_that_goes_on(dataset, photos, tmp_path, images_computed):
    script = f"""
        import sys; sys.path.insert(0, {str(Path(__file__).parents[2] / "support")!r})
        import time
        import pytest
        from makers import cut_small, make_extractor
        from vfs_ops.builds import builder
        from vfs_ops.datasets.dataset import open_dataset
        from vfs_ops.store.workspace import Workspace
        cut_small(pytest.MonkeyPatch())
        dataset = open_dataset(Workspace.at({dataset.workspace.url!r}), {dataset.id!r})
        hang = lambda progress: time.sleep(600 if progress.done >= 40 else 0)
        builder.build(dataset, make_extractor(), progress=hang)
    """
    receipts = Path(dataset.workspace.url.removeprefix("file://")) / "caches"
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    with subprocess.Popen(command) as child:
        try:
            until(lambda: list(receipts.glob("*/receipts/00001.json")), [child])
        finally:
            child.kill()
    extractor = make_extractor()
    finished = [cache.finished_shards for cache in plan_build(dataset, extractor)]
    assert 1 <= min(finished) < 4
    with pytest.raises(IncompleteError, match="of 4 shards"):
        open_cache(dataset.workspace, plan_build(dataset, extractor)[0].spec.id)
    del images_computed[:]
    caches = build(dataset, extractor)
    assert sum(images_computed) - 1 == dataset.count - 16 * min(finished)
    undisturbed = Workspace.at(f"{tmp_path}/undisturbed")
    for cache, other in zip(caches, build(dataset, extractor, workspace=undisturbed), strict=True):
        assert stored_bytes(cache) == stored_bytes(other)


def test_builders_side_by_side_end_with_one_sound_cache(dataset, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(build, dataset, make_extractor()) for _ in range(3)]
    results = [future.result() for future in futures]
    alone = Workspace.at(f"{tmp_path}/alone")
    for cache, other in zip(
        results[0], build(dataset, make_extractor(), workspace=alone), strict=True
    ):
        assert stored_bytes(cache) == stored_bytes(other)


def test_unreadable_images_keep_their_row_with_the_reason(tmp_path, workspace, extractor):
    write_photos(tmp_path / "images", 20)
    broken = tmp_path / "images" / "even" / "0004.png"
    broken.write_bytes(broken.read_bytes()[:200])
    dataset = ingest(str(tmp_path / "images"), workspace)
    row = dataset.table(["uri"])["uri"].to_pylist().index("even/0004.png")
    for cache in build(dataset, extractor):
        assert list(cache.invalid) == [row]
        assert cache.invalid[row]
        assert not cache.feature_map(row).any()
        assert cache.feature_map(row + 1).any()
        assert cache.count == 20


def test_no_readable_image_at_all_is_an_error(tmp_path, workspace, extractor):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"no image")
    dataset = ingest(str(tmp_path / "images"), workspace)
    with pytest.raises(SourceError, match="none of the 1 images"):
        build(dataset, extractor)


def test_a_changed_image_stops_the_build(tmp_path, workspace, extractor):
    write_photos(tmp_path / "images", 20)
    dataset = ingest(str(tmp_path / "images"), workspace)
    write_photos(tmp_path / "images", 1, seed=9, first=8)
    with pytest.raises(ImageChangedError, match=r"even/0008\.png.*ingest"):
        build(dataset, extractor)
    with pytest.raises(IncompleteError):
        open_cache(workspace, plan_build(dataset, extractor)[0].spec.id)


class Toy(torch.nn.Module):
    """Its features depend on numbers that stand in its code, not in its weights."""

    def __init__(self, factor=1.0, offset=0.0):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.AvgPool2d(8))
        self.factor, self.offset = factor, offset

    def forward(self, x):
        return self.body(torch.cat([x, x.flip(1) ** 2], 1) * self.factor + self.offset)


def toy_extractor(module):
    preprocessing = Preprocessing(resize=Resize("exact", (32, 32)), crop=None)
    return FeatureExtractor(load_model(module, name="toy", preprocessing=preprocessing), ["body"])


def test_overflow_is_refused_before_anything_is_written(dataset):
    with pytest.raises(FeatureRangeError, match="float32"):
        build(dataset, toy_extractor(Toy(factor=1e6)))
    assert dataset.workspace.walk("caches") == []
    [cache] = build(dataset, toy_extractor(Toy(factor=1e6)), dtype="float32")
    assert cache.feature_map(0).dtype == np.float32
    assert cache.feature_map(0).max() > 1e5


def test_features_refused_in_the_middle_leave_no_hole(tmp_path, workspace):
    """One image of the last batch but one overflows; the batches behind it were computed too."""
    write_photos(tmp_path / "images", 60)

    class Bright(Toy):
        def forward(self, x):
            white = (x.amin(dim=(1, 2, 3), keepdim=True) > 0.99).float()
            return self.body(torch.cat([x, x.flip(1)], 1) * (1 + white * 1e6))

    # Row 33, which is none of the sample's, in the first of the two batches of shard 2.
    Image.new("RGB", (8, 8), "white").save(tmp_path / "images" / "odd" / "0007.png")
    dataset = ingest(str(tmp_path / "images"), workspace)
    extractor = toy_extractor(Bright())
    with pytest.raises(FeatureRangeError):
        build(dataset, extractor)
    [planned] = plan_build(dataset, extractor)
    with pytest.raises(FeatureRangeError):
        build(dataset, extractor)
    assert plan_build(dataset, extractor)[0].finished_shards == planned.finished_shards < 4


@pytest.mark.parametrize("failing", range(12))
def test_a_passing_failure_of_the_storage_leaves_no_hole(
    dataset, extractor, tmp_path, monkeypatch, failing
):
    undisturbed = Workspace.at(f"{tmp_path}/undisturbed")
    expected = [stored_bytes(c) for c in build(dataset, extractor, workspace=undisturbed)]
    create, count = Workspace.create, 0

    def fails_once(self, key, data):
        nonlocal count
        if "/c/" in key and not key.endswith("/c/0"):
            count += 1
            if count == failing + 1:
                raise StorageFullError("no space left for a moment")
        return create(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "create", fails_once)
        with pytest.raises(StorageFullError):
            build(dataset, extractor)
    caches = build(dataset, extractor)
    assert [stored_bytes(cache) for cache in caches] == expected
    assert [verify(cache) for cache in caches] == [[], []]


def test_features_that_are_not_finite_make_an_image_invalid(tmp_path, workspace):
    write_photos(tmp_path / "images", 20)
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "black.png")

    class Inverse(Toy):
        def forward(self, x):
            return self.body(x / x.mean(dim=(1, 2, 3), keepdim=True))

    [cache] = build(ingest(str(tmp_path / "images"), workspace), toy_extractor(Inverse()))
    assert cache.invalid == {0: "the model's features of this image are not finite, or too large"}
    assert not cache.feature_map(0).any()


def test_a_build_is_not_finished_by_other_code(dataset, monkeypatch):
    def interrupt(progress):
        if progress.done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(dataset, toy_extractor(Toy()), progress=interrupt)
    with pytest.raises(ExtractorMismatchError, match="probe"):
        build(dataset, toy_extractor(Toy(offset=0.5)))
    assert len(build(dataset, toy_extractor(Toy()))) == 1


def test_a_plan_says_what_will_be_written_and_writes_nothing(dataset, extractor):
    first, second = plan_build(dataset, extractor)
    assert (first.plan.shard_count, first.finished_shards, first.complete) == (4, 0, False)
    assert first.bytes_to_write == 60 * 8 * 8 * 6 * 2 + 64 * (8 * 8 * 4 + 1)
    assert second.bytes_to_write == 60 * 4 * 4 * 10 * 2 + 64 * (4 * 4 * 4 + 1)
    assert dataset.workspace.walk("caches") == []
    build(dataset, extractor)
    assert [cache.bytes_to_write for cache in plan_build(dataset, extractor)] == [0, 0]


def test_a_cache_in_memory_needs_no_place(dataset, extractor):
    kept = build(dataset, extractor)
    memory = Workspace.in_memory()
    for cache, other in zip(build(dataset, extractor, workspace=memory), kept, strict=True):
        assert cache.workspace.protocol == "memory"
        assert stored_bytes(cache) == stored_bytes(other)
    memory.delete("caches")


def test_mostly_zero_features_are_compressed(dataset):
    class Sparse(Toy):
        def forward(self, x):
            return self.body(torch.cat([x, torch.zeros(len(x), 60, *x.shape[2:])], 1))

    [cache] = build(dataset, toy_extractor(Sparse()))
    assert cache.plan.codec == "zstd"
    assert cache.plan.sample_ratio > 2
    assert cache.feature_bytes < cache.count * cache.plan.image_bytes / 2
    assert cache.feature_map(37).any()
