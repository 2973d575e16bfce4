import numpy as np
import pytest
from PIL import Image

from vfs_ops.errors import ImageError, MismatchError, NotFoundError, QueryError
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.images.geometry import Frame
from vfs_ops.overlays.mapped_images import MapLayer, MappedImages, join_maps, map_images, map_rows


def test_rows_of_caches_are_what_the_model_computes(photos, caches, extractor):
    rows = [17, 3, 59]
    read = map_rows(caches, rows)
    uris, labels = (
        caches[0].dataset.rows(rows, [name])[name].to_pylist() for name in ("uri", "label")
    )
    made = map_images([photos / uri for uri in uris], extractor)
    assert [layer.label for layer in read.layers] == ["0", "2"]
    assert [layer.label for layer in made.layers] == ["0", "2"]
    assert made.labels == tuple(uri.rpartition("/")[2] for uri in uris)
    assert read.labels == tuple(f"{label} · {row}" for label, row in zip(labels, rows, strict=True))
    for one, other in zip(read.layers, made.layers, strict=True):
        assert one.frames == other.frames
        for stored, computed in zip(one.features, other.features, strict=True):
            np.testing.assert_allclose(stored, computed, rtol=2e-3, atol=2e-3)
    for picture, frame in zip(read.pictures, read.layers[0].frames, strict=True):
        assert picture.size == (frame.width, frame.height) == (64, 48)


def test_models_are_named_where_there_are_several(extractor):
    image = Image.new("RGB", (64, 48), "teal")
    one = map_images([image], extractor)
    assert [layer.label for layer in one.layers] == ["0", "2"]
    other = type(extractor)(extractor.model, ["2"])
    assert [layer.label for layer in map_images([image], [extractor, other]).layers] == [
        "0",
        "2",
        "2",
    ]


def test_images_of_two_places_are_joined(caches, extractor):
    painted = map_images([np.full((30, 50, 3), 90, np.uint8)], extractor, ["painted"])
    joined = join_maps(map_rows(caches, [4], ["real"]), painted)
    assert joined.labels == ("real", "painted")
    assert joined.sizes == ((64, 48), (50, 30))
    with pytest.raises(MismatchError, match="same layers"):
        join_maps(painted, map_rows(caches[0], [4]))


def test_pictures_are_small():
    preprocessing = Preprocessing(resize=Resize("exact", (8, 8)), crop=None)
    frame = Frame.of(3, 3, preprocessing)
    with pytest.raises(QueryError, match="one number of images"):
        MappedImages((None,), ("a", "b"), (MapLayer("x", (np.ones((2, 2, 1)),), (frame,)),))
    with pytest.raises(QueryError, match="one shape"):
        MapLayer("x", (np.ones((2, 2, 1)), np.ones((2, 3, 1))), (frame, frame))
    with pytest.raises(QueryError, match="1 frames"):
        MapLayer("x", (np.ones((2, 2, 1)), np.ones((2, 2, 1))), (frame,))
    with pytest.raises(MismatchError, match="sizes"):
        MappedImages(
            (None,),
            ("a",),
            (
                MapLayer("x", (np.ones((2, 2, 1)),), (frame,)),
                MapLayer("y", (np.ones((2, 2, 1)),), (Frame.of(4, 3, preprocessing),)),
            ),
        )


def test_what_cannot_be_mapped_is_refused(cache, extractor, tmp_path):
    with pytest.raises(QueryError, match="image 60"):
        map_rows(cache, [60])
    with pytest.raises(QueryError, match="one of each"):
        map_rows(cache, [])
    with pytest.raises(QueryError, match="give a list"):
        map_images("cat.jpg", extractor)
    with pytest.raises(NotFoundError, match=r"cat\.jpg"):
        map_images([tmp_path / "cat.jpg"], extractor)
    with pytest.raises(ImageError):
        map_images([b"no image"], extractor)
    with pytest.raises(QueryError, match="labels"):
        map_images([Image.new("L", (9, 9))], extractor, ["a", "b"])
