"""Caches that the reference's own code writes, imported; what is not as claimed, refused."""

import json
import shutil
import zlib

import numpy as np
import pytest
import zarr
from makers import make_extractor, write_photos
from numcodecs import Blosc
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from vfs_ops.builds import claims
from vfs_ops.builds.verification import verify
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.errors import (
    DamagedError,
    ExtractorMismatchError,
    IncompleteError,
    InputError,
    MismatchError,
    NotFoundError,
    SpecError,
    UnsafeMetadataError,
    VfsError,
)
from vfs_ops.scans.queries import query_from_image, query_from_row
from vfs_ops.scans.search import search
from vfs_ops.sharing.foreign_arrays import ForeignArray
from vfs_ops.sharing.importing import import_cache, reference_order

TRANSFORM = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
CHUNK = 7
"""Images in a chunk: few instead of the reference's 500, so that there are several."""


class Root:
    """What the reference uses of Zarr 2, made with Zarr 3: the same files."""

    def __init__(self, path):
        self.group = zarr.open_group(str(path), mode="a", zarr_format=2)

    def zeros(self, name, *, shape, chunks, dtype, overwrite):
        assert chunks == (500, None, None, None)
        array = self.group.create_array(
            name,
            shape=shape,
            chunks=(CHUNK, *shape[1:]),
            dtype=dtype,
            compressors=Blosc(cname="lz4", clevel=5, shuffle=Blosc.SHUFFLE),
            fill_value=0,
            overwrite=overwrite,
            config={"write_empty_chunks": True},
        )
        return Array(array)


class Array:
    """What the reference uses of an array of Zarr 2."""

    def __init__(self, array):
        self.array = array

    def __len__(self):
        return self.array.shape[0]

    def __setitem__(self, rows, values):
        self.array[rows] = values


@pytest.fixture(scope="session")
def reference():
    """Return the reference package; its imports warn of what is deprecated."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import visualfeaturesearch
    return visualfeaturesearch


@pytest.fixture
def write(reference, monkeypatch, tmp_path):
    """Return what lets the reference write a cache of a folder of photos."""
    monkeypatch.setattr(zarr, "DirectoryStore", str, raising=False)
    monkeypatch.setattr(zarr, "group", lambda store, overwrite: Root(store))

    def write(images, dtype=np.float32, seed=0):
        module = make_extractor(seed=seed).model.module
        model = reference.util.FeatureHook(module, module[2])
        loader = DataLoader(images, batch_size=8)
        place = tmp_path / "reference"
        reference.caching.precompute(loader, model, str(place), "layer 2", "cpu", dtype)
        return place

    return write


@pytest.fixture
def foreign(photos, write):
    return write(ImageFolder(photos, TRANSFORM))


def change(folder, **fields):
    place = folder / "layer 2" / ".zarray"
    place.write_text(json.dumps({**json.loads(place.read_text()), **fields}))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_reference_cache_becomes_a_proper_one(photos, write, dataset, small_shards, dtype):
    folder = write(ImageFolder(photos, TRANSFORM), dtype)
    seen = []
    cache = import_cache(folder, dataset, make_extractor(["2"]), progress=seen.append)
    theirs = zarr.open_group(str(folder), mode="r")["layer 2"][:]
    assert cache.spec.precision == "unknown"
    assert cache.spec.origin.startswith("imported:")
    assert cache.spec.dtype == np.dtype(dtype).name
    assert cache.shard_count == 4
    order = reference_order(dataset.table(["uri"])["uri"].to_pylist())
    np.testing.assert_array_equal(
        cache.feature_maps(0, cache.count)[order], theirs.transpose(0, 2, 3, 1)
    )
    assert verify(cache, extractor=make_extractor(["2"])) == []
    assert {(each.stage, each.done) for each in seen} >= {("digest", 9), ("import", 60)}
    hits = search(cache, query_from_row(cache, 3, boxes=[(8, 8, 40, 40)]), 3)
    assert len(hits.to_frame()) == 3
    photo = photos / "even" / "0000.png"
    query = query_from_image(make_extractor(["2"]), photo, boxes=[(8, 8, 40, 40)])
    found = search(cache, query, 1, exclude_query_image=False).to_frame()
    assert (found["uri"][0], found["score"][0] > 0.999) == ("even/0000.png", True)


def test_importing_again_writes_nothing(foreign, dataset, small_shards):
    first = import_cache(foreign, dataset, make_extractor(["2"]))
    before = dataset.workspace.walk()
    assert import_cache(foreign, dataset, make_extractor(["2"])).id == first.id
    assert dataset.workspace.walk() == before


def test_an_interrupted_import_goes_on(foreign, dataset, small_shards, monkeypatch):
    claimed = []

    def interrupt(progress):
        if (progress.stage, progress.done) == ("import", 32):
            [folder] = dataset.workspace.names("caches")
            claimed.extend(claims.active(dataset.workspace, folder))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_cache(foreign, dataset, make_extractor(["2"]), progress=interrupt)
    assert not [s for s in dataset.workspace.walk("caches") if s.path.endswith("complete.json")]
    done = {stat.path: stat.token for stat in dataset.workspace.walk("caches")}
    assert sum("/receipts/" in path for path in done) == 2
    assert len(claimed) == 1  # nobody takes it for abandoned meanwhile
    assert dataset.workspace.walk("claims") == []
    cache = import_cache(foreign, dataset, make_extractor(["2"]))
    after = {stat.path: stat.token for stat in dataset.workspace.walk("caches")}
    assert done.items() <= after.items()
    assert verify(cache) == []


def test_images_beside_each_other_come_by_name(reference, write, workspace, tmp_path):
    write_photos(tmp_path / "nested", 12)
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, photo in enumerate(sorted((tmp_path / "nested").rglob("*.png"))):
        shutil.copy(photo, flat / f"photo {number}.png")  # 10 sorts before 2
    folder = write(reference.data.SimpleDataset(str(flat), TRANSFORM))
    cache = import_cache(folder, ingest(str(flat), workspace), make_extractor(["2"]))
    assert cache.count == 12


def test_the_order_of_folders_is_the_references(tmp_path):
    uris = ["a-b/1.png", "a/2.png", "a/10.png", "a/z/0.png", "b.c/3.png", "b/4.png"]
    for uri in uris:
        (tmp_path / uri).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(next(iter([__file__])), tmp_path / uri)
    theirs = [path[len(str(tmp_path)) + 1 :] for path, _ in ImageFolder(tmp_path).samples]
    assert [uris[row] for row in reference_order(uris)] == theirs
    flat = ["2.png", "10.png", "B.png", "a.png"]
    assert [flat[row] for row in reference_order(flat)] == sorted(flat)


def test_what_is_of_other_weights_is_refused_with_the_numbers(photos, write, dataset):
    folder = write(ImageFolder(photos, TRANSFORM), seed=1)
    before = dataset.workspace.walk()
    with pytest.raises(
        ExtractorMismatchError, match=r"of 16 images computed again, 16 differ; lowest cosine .*0\."
    ):
        import_cache(folder, dataset, make_extractor(["2"]))
    assert dataset.workspace.walk() == before


def test_features_that_are_scaled_or_not_finite_are_refused(foreign, dataset):
    array = zarr.open_group(str(foreign), mode="a")["layer 2"]
    array[:] = array[:] * 1.1
    with pytest.raises(ExtractorMismatchError, match=r"norms differ by up to 9\.1%"):
        import_cache(foreign, dataset, make_extractor(["2"]))
    array[:] = np.nan
    with pytest.raises(ExtractorMismatchError, match=r"16 differ"):
        import_cache(foreign, dataset, make_extractor(["2"]))


def test_an_array_that_was_not_filled_to_its_end_is_refused(foreign, dataset):
    zarr.open_group(str(foreign), mode="a")["layer 2"][57:] = 0
    with pytest.raises(ExtractorMismatchError, match=r"cosine of a cell 0\.0"):
        import_cache(foreign, dataset, make_extractor(["2"]), sample=2)
    (foreign / "layer 2" / "8.0.0.0").unlink()
    with pytest.raises(IncompleteError, match=r"chunk 8 .* is missing"):
        import_cache(foreign, dataset, make_extractor(["2"]))


def test_single_images_that_are_not_finite_are_no_hits(foreign, dataset, monkeypatch):
    order = reference_order(dataset.table(["uri"])["uri"].to_pylist())
    zarr.open_group(str(foreign), mode="a")["layer 2"][31] = np.inf
    cache = import_cache(foreign, dataset, make_extractor(["2"]), sample=2)
    assert list(cache.invalid) == [order[31]]
    assert "not finite" in cache.invalid[order[31]]


def test_other_shapes_are_refused_with_both(foreign, dataset):
    with pytest.raises(MismatchError, match=r"\(60, 10, 4, 4\).*\(60, 6, 8, 8\)"):
        import_cache(foreign, dataset, make_extractor(["0"]))
    with pytest.raises(SpecError, match="2 layers"):
        import_cache(foreign, dataset, make_extractor())


def test_which_array_is_asked_for_where_there_are_several(foreign, dataset):
    shutil.copytree(foreign / "layer 2", foreign / "other")
    with pytest.raises(InputError, match=r"2 arrays.*'layer 2', 'other'"):
        import_cache(foreign, dataset, make_extractor(["2"]))
    cache = import_cache(foreign, dataset, make_extractor(["2"]), array="layer 2")
    assert import_cache(foreign / "layer 2", dataset, make_extractor(["2"])).id == cache.id
    for name in ("../reference", "/etc", "nothing", "layer 2/.."):
        with pytest.raises(VfsError):
            import_cache(foreign, dataset, make_extractor(["2"]), array=name)
    with pytest.raises(NotFoundError, match="no Zarr v2 array"):
        import_cache(foreign.parent / "workspace", dataset, make_extractor(["2"]))


@pytest.mark.parametrize(
    "fields",
    [
        {"compressor": {"id": "pickle"}},
        {"compressor": {"id": "json2"}},
        {"compressor": ["blosc"]},
        {"filters": [{"id": "pickle"}]},
        {"filters": [{"id": "vlen-bytes"}]},
        {"dtype": "|O"},
        {"dtype": ">f4"},
        {"dtype": [["a", "<f4"]]},
        {"order": "F"},
        {"zarr_format": 3},
        {"shape": [60, 10, 4]},
        {"shape": [60, 10, 4, -4]},
        {"shape": [60, 10, 4, True]},
        {"chunks": [7, 10, 2, 4]},
        {"chunks": [2**30, 10, 4, 4]},
        {"chunks": [0, 10, 4, 4]},
        {"dimension_separator": "../"},
    ],
)
def test_metadata_that_asks_for_more_is_refused(foreign, dataset, fields, monkeypatch):
    monkeypatch.setattr(ForeignArray, "_encoded", lambda *_: pytest.fail("a chunk was read"))
    change(foreign, **fields)
    with pytest.raises(UnsafeMetadataError):
        import_cache(foreign, dataset, make_extractor(["2"]))


def test_chunks_that_would_decode_to_more_are_refused(foreign, dataset):
    first = foreign / "layer 2" / "0.0.0.0"
    whole = first.read_bytes()
    bomb = Blosc(cname="zstd").encode(bytes(1 << 26))
    other = whole[:16] + bytes(len(whole) - 16)
    for data in (b"", whole[:10], whole[:-3], whole + b"x", bomb, bytes(len(whole)), other):
        first.write_bytes(data)
        with pytest.raises((DamagedError, UnsafeMetadataError)):
            import_cache(foreign, dataset, make_extractor(["2"]))
    change(foreign, compressor={"id": "zlib", "level": 1})
    for data in (zlib.compress(bytes(1 << 26)), b"no zlib", zlib.compress(b"x")):
        first.write_bytes(data)
        with pytest.raises((DamagedError, UnsafeMetadataError)):
            import_cache(foreign, dataset, make_extractor(["2"]))
    first.write_bytes(bytes(1 << 24))
    with pytest.raises(UnsafeMetadataError, match="cannot take more"):
        import_cache(foreign, dataset, make_extractor(["2"]))


@pytest.mark.parametrize("compressor", [None, {"id": "zlib", "level": 1}])
def test_other_codecs_hold_the_same(foreign, dataset, compressor):
    expected = import_cache(foreign, dataset, make_extractor(["2"])).feature_maps(0, 60)
    for file in (foreign / "layer 2").glob("*.0.0.0"):
        raw = bytes(Blosc().decode(file.read_bytes()))
        file.write_bytes(raw if compressor is None else zlib.compress(raw, 1))
    change(foreign, compressor=compressor)
    again = import_cache(foreign, dataset, make_extractor(["2"]))
    np.testing.assert_array_equal(again.feature_maps(0, 60), expected)


def test_a_chunk_that_changes_meanwhile_is_refused(foreign, dataset, monkeypatch):
    array_digest = ForeignArray.digest

    def digest(self, progress):
        found = array_digest(self, progress)
        place = foreign / "layer 2" / "3.0.0.0"
        place.write_bytes((foreign / "layer 2" / "2.0.0.0").read_bytes())
        return found

    monkeypatch.setattr(ForeignArray, "digest", digest)
    with pytest.raises(DamagedError, match="has changed while"):
        import_cache(foreign, dataset, make_extractor(["2"]))


def test_few_chunks_are_in_memory_and_each_is_decoded_once(foreign, dataset, monkeypatch):
    decoded, decode = [], ForeignArray._decoded
    monkeypatch.setattr(
        ForeignArray,
        "_decoded",
        lambda self, data, chunk: (
            decoded.append((chunk, len(self._kept))) or decode(self, data, chunk)
        ),
    )
    import_cache(foreign, dataset, make_extractor(["2"]), sample=1)
    assert max(kept for _, kept in decoded) <= 2
    assert len(decoded) <= 9 + 2  # those of the sample may come again
