from __future__ import annotations

import numpy as np
import pytest
import torch
from makers import make_extractor, write_photos
from PIL import Image

from vfs_ops.builds.builder import build
from vfs_ops.caches.cache import Cache
from vfs_ops.datasets.dataset import Dataset
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import (
    ExtractorMismatchError,
    ImageError,
    NotFoundError,
    QueryError,
    RegionError,
)
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.models.loading import load_model
from vfs_ops.scans import query_inputs
from vfs_ops.scans.queries import query_from_image, query_from_row
from vfs_ops.scans.query_inputs import RegionCroppedWarning

BOX = [(16.0, 12.0, 48.0, 36.0)]


def test_a_query_is_the_features_under_the_region(cache: Cache, extractor, photos) -> None:
    path = photos / "even" / "0000.png"
    query = query_from_image(extractor, path, layer="0", boxes=BOX, downsample="coverage")
    assert (query.region.top, query.region.left) == (2, 2)
    assert query.features.shape == (4, 4, 6)
    pixels = extractor.prepare(Image.open(path).convert("RGB"))
    features = extractor.features(pixels[np.newaxis])[0][0]
    np.testing.assert_array_equal(query.features, features[2:6, 2:6])
    query.check_matches(cache)


def test_an_image_may_come_as_path_bytes_image_or_array(extractor, photos) -> None:
    path = photos / "even" / "0000.png"
    image = Image.open(path).convert("RGB")
    given = [path, str(path), path.read_bytes(), image, np.asarray(image)]
    made = [query_from_image(extractor, one, layer="2", boxes=BOX) for one in given]
    for query in made[1:]:
        np.testing.assert_array_equal(query.features, made[0].features)
    assert made[0].digest == made[1].digest == made[2].digest
    assert made[3].digest == made[4].digest != made[0].digest


def test_a_row_needs_no_model(cache: Cache, extractor, photos) -> None:
    row = cache.dataset.table(["uri"])["uri"].to_pylist().index("odd/0003.png")
    stored = query_from_row(cache, row, boxes=BOX)
    computed = query_from_image(extractor, photos / "odd" / "0003.png", layer="0", boxes=BOX)
    np.testing.assert_allclose(stored.features, computed.features, rtol=2e-3, atol=1e-3)
    np.testing.assert_array_equal(stored.region.weights, computed.region.weights)
    assert stored.digest == computed.digest
    assert stored.probe is None
    assert stored.picture.image is not None
    assert stored.picture.image.size == (64, 48)
    stored.check_matches(cache)


def test_the_picture_shows_the_whole_image_and_the_mask(extractor) -> None:
    image = Image.new("L", (2000, 1000), 90)
    query = query_from_image(extractor, image, layer="0", boxes=[(0, 0, 1000, 1000)])
    assert query.picture.image is not None
    assert (query.picture.image.size, query.picture.image.mode) == ((512, 256), "RGB")
    np.testing.assert_array_equal(query.picture.mask[:, :255], 255)
    np.testing.assert_array_equal(query.picture.mask[:, 257:], 0)


@pytest.fixture
def cropping() -> FeatureExtractor:
    """An extractor that sees the middle third of an image three times as wide as high."""
    preprocessing = Preprocessing(resize=Resize("short", (32,)), crop=(32, 32))
    module = torch.nn.Conv2d(3, 5, 4, stride=4)
    model = load_model(torch.nn.Sequential(module), name="m", preprocessing=preprocessing)
    return FeatureExtractor(model, ["0"], device="cpu")


@pytest.mark.parametrize(("left", "right", "visible"), [(50, 150, 0.5), (100, 200, 1.0)])
def test_a_query_knows_which_part_of_the_highlight_is_visible(
    cropping: FeatureExtractor, left: int, right: int, visible: float
) -> None:
    query = query_from_image(
        cropping, Image.new("RGB", (300, 100), (9, 99, 9)), boxes=[(left, 10, right, 90)]
    )
    assert query.visible == visible


def test_a_highlight_that_is_mostly_cropped_away_is_said(
    cropping: FeatureExtractor, tmp_path, workspace
) -> None:
    Image.effect_noise((300, 100), 60).save(tmp_path / "wide.png")
    box = [(0, 10, 125, 90)]
    said = r"only 20% .*pixels \(100, 0\) to \(200, 100\)"
    with pytest.warns(RegionCroppedWarning, match=said) as warned:
        query = query_from_image(cropping, tmp_path / "wide.png", boxes=box)
    assert warned[0].filename == __file__
    assert query.visible == pytest.approx(0.2)
    [cache] = build(ingest(str(tmp_path), workspace), cropping)
    with pytest.warns(RegionCroppedWarning, match=said) as warned:
        assert query_from_row(cache, 0, boxes=box).visible == query.visible
    assert warned[0].filename == __file__


def test_the_whole_image_needs_no_warning(cropping: FeatureExtractor) -> None:
    query = query_from_image(cropping, Image.new("RGB", (300, 100), (9, 99, 9)))
    assert query.visible == pytest.approx(1 / 3)


def test_queries_and_extractors_describe_themselves_in_a_line(
    cropping: FeatureExtractor, extractor: FeatureExtractor
) -> None:
    image = Image.new("RGB", (300, 100), (9, 99, 9))
    query = query_from_image(cropping, image, boxes=[(50, 0, 150, 100)], downsample="coverage")
    assert repr(query) == "<Query: 8×4 cells, custom:m 0, 50% of the highlighted part visible>"
    whole = query_from_image(extractor, image, layer="0")
    assert repr(whole) == "<Query: 8×8 cells, custom:toy 0>"
    assert repr(extractor) == (
        "<FeatureExtractor: custom:toy (given), layers 0, 2, float32 on cpu>"
    )


def test_a_cache_of_another_extractor_is_refused_and_the_difference_named(
    caches: list[Cache],
) -> None:
    query = query_from_row(caches[0], 0)
    with pytest.raises(ExtractorMismatchError, match="layer is '0', in the cache '2'"):
        query.check_matches(caches[1])
    other = make_extractor(("0",), seed=1, size=40)
    query = query_from_image(other, Image.new("RGB", (64, 48), (9, 99, 9)))
    with pytest.raises(ExtractorMismatchError) as raised:
        query.check_matches(caches[0])
    assert "preprocessing.resize.size is [40, 40], in the cache [32, 32]" in str(raised.value)
    assert "weights is" in str(raised.value)


def test_other_code_behind_the_same_weights_is_refused(cache: Cache, extractor) -> None:
    extractor.model.module[0].register_forward_hook(lambda module, inputs, output: -output)
    query = query_from_image(extractor, Image.new("RGB", (64, 48), (9, 99, 9)), layer="0")
    with pytest.raises(ExtractorMismatchError, match="probe"):
        query.check_matches(cache)


def test_another_precision_is_no_reason_to_refuse(cache: Cache) -> None:
    extractor = make_extractor(precision="bfloat16")
    query = query_from_image(extractor, Image.new("RGB", (64, 48), (9, 99, 9)), layer="0")
    query.check_matches(cache)


def test_the_probe_is_computed_once_for_an_extractor(
    extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    computed = extractor.features
    monkeypatch.setattr(extractor, "features", lambda pixels: calls.append(1) or computed(pixels))
    for _ in range(3):
        query_from_image(extractor, Image.new("RGB", (64, 48), (9, 99, 9)), layer="0")
    assert len(calls) == 4
    assert extractor in query_inputs._probes


@pytest.mark.parametrize("layer", [None, "1"])
def test_the_layer_must_be_clear(extractor: FeatureExtractor, layer: str | None) -> None:
    with pytest.raises(QueryError, match="one of the extractor's: 0, 2"):
        query_from_image(extractor, Image.new("RGB", (64, 48)), layer=layer)


def test_features_that_are_all_zero_are_refused(extractor: FeatureExtractor) -> None:
    with torch.no_grad():
        for parameter in extractor.model.module.parameters():
            parameter.zero_()
    with pytest.raises(QueryError, match="are zero"):
        query_from_image(extractor, Image.new("RGB", (64, 48)), layer="0")


def test_bad_images_and_regions_are_refused(extractor: FeatureExtractor, tmp_path) -> None:
    with pytest.raises(NotFoundError, match=r"no image file .*none\.png; check the path"):
        query_from_image(extractor, tmp_path / "none.png", layer="0")
    with pytest.raises(NotFoundError, match="no image file"):
        query_from_image(extractor, tmp_path, layer="0")
    with pytest.raises(ImageError):
        query_from_image(extractor, b"no image", layer="0")
    with pytest.raises(RegionError, match="shape"):
        query_from_image(
            extractor, Image.new("RGB", (64, 48)), layer="0", mask=np.ones((64, 48), bool)
        )


def test_a_row_that_is_not_there_is_refused(cache: Cache) -> None:
    with pytest.raises(QueryError, match="0 to 59"):
        query_from_row(cache, 60)


@pytest.mark.parametrize("row", [1.5, "1", None, True, [1]])
def test_a_row_that_is_no_whole_number_is_refused(cache: Cache, row: object) -> None:
    with pytest.raises(QueryError, match="expected the number of an image"):
        query_from_row(cache, row)  # type: ignore[arg-type]


def test_a_row_may_be_an_integer_of_numpy(cache: Cache) -> None:
    made = query_from_row(cache, np.int64(1), boxes=BOX)  # type: ignore[arg-type]
    np.testing.assert_array_equal(made.features, query_from_row(cache, 1, boxes=BOX).features)


def test_an_unreadable_row_is_refused_with_the_reason(tmp_path, workspace) -> None:
    write_photos(tmp_path / "some", 6)
    (tmp_path / "some" / "even" / "broken.png").write_bytes(b"\x89PNG broken")
    dataset: Dataset = ingest(str(tmp_path / "some"), workspace)
    [cache] = build(dataset, make_extractor(("0",)))
    [row] = cache.invalid
    with pytest.raises(QueryError, match=f"image {row} has no features"):
        query_from_row(cache, row)
