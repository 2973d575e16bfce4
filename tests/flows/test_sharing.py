"""The commands by which a team shares its catalog, and imports what it had before."""

import json

import numpy as np
import pytest
import zarr
from PIL import Image

import catalog
from flows.cli import main


@pytest.fixture
def registered(caches):
    workspace = caches[0].workspace
    catalog.register_dataset(workspace, "photos", caches[0].dataset)
    for cache, name in zip(caches, ("photos-toy-0", "photos-toy-2"), strict=True):
        catalog.register_cache(workspace, name, cache, dataset_name="photos")
    return workspace


@pytest.fixture
def run(capsys):
    def run(workspace, *arguments, code=0):
        with pytest.raises(SystemExit) as ended:
            main(["-w", workspace.url, *arguments])
        out, err = capsys.readouterr()
        assert (ended.value.code or 0) == code, err
        return out, err

    return run


def test_entries_are_found_by_words_and_fields(registered, run):
    run(registered, "find", "--where", "layer=2", code=2)  # a layer is text, and 2 a number
    out, err = run(registered, "find", "--where", 'layer="2"')
    assert "photos-toy-2" in out
    assert "1 entry found" in err
    out, _ = run(registered, "find", "CUSTOM:toy", "--json", "--where", "channels>6")
    [row] = json.loads(out)
    assert (row["name"], row["channels"], row["grid"]) == ("photos-toy-2", 10, [4, 4])
    out, _ = run(registered, "find", "--also", registered.url)
    assert registered.url in out
    run(registered, "find", "--where", "nothing=1", code=2)


def test_aliases_and_deprecations_are_said(registered, run):
    run(registered, "alias", "photos-toy-2", "team-default", "1")
    assert catalog.find(registered, "photos-toy-2@team-default").version == 1
    _, err = run(
        registered,
        *("deprecate", "photos-toy-0", "--reason", "wrong crop", "--successor", "photos-toy-2"),
    )
    assert "photos-toy-0@1 is deprecated: wrong crop; use photos-toy-2@1 instead" in err
    run(registered, "alias", "photos-toy-2", "latest", "1", code=2)
    _, err = run(registered, "alias", "photos-toy-2", "x", "7", code=3)
    assert "; it has 1, team-default" in err
    _, err = run(registered, "find", "--where", "aliases~team-default")
    assert "1 entry found" in err
    _, err = run(registered, "show", "photos-toy-0")
    assert "photos-toy-0@1 is deprecated: wrong crop" in err
    shown = json.loads(run(registered, "show", "photos-toy-2", "--json")[0])
    assert (shown["aliases"], shown["deprecation"]) == (["team-default"], None)
    assert "team-default" in run(registered, "show", "photos-toy-2")[0]
    _, err = run(registered, "describe", "photos", "--owner", "ann", code=3)
    assert "there is a dataset of that name" in err


def test_what_people_say_is_added(registered, run):
    run(registered, "describe", "photos-toy-2", "--owner", "ann", "--licence-features", "CC0-1.0")
    run(registered, "describe", "photos-toy-2", "--description", "The later\x1b[2J layer.")
    entry = catalog.find(registered, "photos-toy-2")
    assert (entry.version, entry.about["owner"]) == (3, "ann")
    assert entry.about["licences"]["features"] == "CC0-1.0"
    out, _ = run(registered, "show", "photos-toy-2")
    assert "CC0-1.0" in out
    assert "\x1b" not in out
    assert "facts" in json.loads(run(registered, "show", "photos-toy-2", "--json")[0])
    run(registered, "describe", "photos-toy-2", "--owner", "x" * 201, code=2)


def test_a_page_is_published(registered, run):
    _, err = run(registered, "publish", "--url", "s3://team/vfs")
    assert "2 caches of 1 dataset" in err
    assert b"s3://team/vfs" in registered.read("catalog/index.html")
    run(registered, "publish", "--url", "ftp://elsewhere", code=2)


def test_a_reference_cache_is_imported(workspace, run, tmp_path):
    from flows.commands.importing import _reference_preprocessing
    from vfs_ops.models.extract import FeatureExtractor
    from vfs_ops.models.loading import load_model

    images = tmp_path / "images"
    images.mkdir()
    random = np.random.default_rng(0)
    for number in range(3):
        pixels = random.integers(0, 255, (8, 10, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((300, 260)).save(images / f"{number}.png")
    model = load_model(
        "timm:resnet10t", weights="random:0", preprocessing=_reference_preprocessing()
    )
    extractor = FeatureExtractor(model, ["layer4"], device="cpu")
    pixels = np.stack(
        [extractor.prepare(Image.open(images / f"{number}.png")) for number in range(3)]
    )
    features = extractor.features(pixels)[0].transpose(0, 3, 1, 2)
    group = zarr.open_group(str(tmp_path / "old"), mode="w", zarr_format=2)
    array = group.create_array(
        "layer4",
        shape=features.shape,
        chunks=(500, *features.shape[1:]),
        dtype="float16",
        compressors=None,
    )
    array[:] = features.astype(np.float16)
    claim = ["import-cache", str(tmp_path / "old"), str(images), "--dataset", "old-photos"]
    claim += ["--model", "timm:resnet10t", "--weights", "random:0"]
    run(workspace, *claim, "--layer", "layer3", code=4)
    assert [entry.name for entry in catalog.list_entries(workspace)] == ["old-photos"]
    _, err = run(workspace, *claim, "--layer", "layer4")
    assert "imported: 3 images" in err
    entry = catalog.find(workspace, "old-photos-timm-resnet10t-layer4")
    assert entry.facts["precision"] == "unknown"
    assert entry.facts["origin"].startswith("imported:")
    assert (
        "lowest cosine" in run(workspace, *claim[:-1], "random:1", "--layer", "layer4", code=4)[1]
    )
    assert len(catalog.list_entries(workspace)) == 2
    taken = [*claim[:-1], "random:1", "--layer", "layer4", "--name", entry.name]
    taken[taken.index("old-photos")] = "never-ingested"
    assert "choose another" in run(workspace, *taken, code=2)[1]
    assert len(catalog.list_entries(workspace)) == 2
