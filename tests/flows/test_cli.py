import errno
import json
import os
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torchvision
from makers import write_photos
from PIL import Image

from vfs_ops.caches.layout import cache_key, features_key

CACHE = "photos-efficientnet-lite0-blocks.6"
BUILD = ["build", "photos", "--model", "efficientnet-lite0", "--layer"]


@pytest.mark.parametrize("arguments", [["--help"], ["ls"], ["--version"]])
def test_help_and_listings_load_nothing_heavy(arguments, tmp_path):
    script = (
        "import sys\nfrom flows.cli import main\n"
        f"try:\n    main({arguments!r})\n"
        "except SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "heavy = {'torch', 'torchvision', 'timm', 'dask', 'prefect', 'xarray', 'pandas', 'zarr',"
        " 'matplotlib', 'pyarrow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_listing_loads_nothing_heavy_where_there_is_something(built, tmp_path):
    script = (
        "import sys\nfrom flows.cli import main\n"
        "try:\n    main(['ls'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'dask', 'prefect', 'pandas'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert CACHE in done.stdout


def test_ls_and_show_say_what_is_there(vfs, built):
    code, out, _ = vfs("ls")
    assert code == 0
    assert "7×7×320" in out
    assert [entry["name"] for entry in json.loads(vfs("ls", "caches", "--json")[1])] == [CACHE]
    facts = vfs("show", "photos")[1]
    assert "even" in facts
    assert "licences" not in facts  # nobody said any
    shown = json.loads(vfs("show", CACHE, "--json")[1])
    assert shown["facts"]["layer"] == "blocks.6"
    assert shown["facts"]["preprocessing"]["crop"] == [224, 224]
    assert vfs("show", CACHE)[0] == 0


def test_an_empty_workspace_says_how_to_begin(vfs):
    code, out, err = vfs("ls")
    assert (code, out) == (0, "")
    assert "vfs demo" in err


def test_layers_lists_grids_and_sizes(vfs):
    code, out, _ = vfs("layers", "efficientnet-lite0", "--json")
    assert code == 0
    layers = {layer["layer"]: layer for layer in json.loads(out)}
    assert layers["blocks.6"]["grid"] == [7, 7]
    assert layers["blocks.6"]["channels"] == 320
    assert layers["blocks.6"]["bytes_50000_images"] == 50_000 * (49 * (320 * 2 + 4) + 1)
    assert "1.6 GB" in vfs("layers", "efficientnet-lite0")[1]


def test_ingest_and_build_again_change_nothing(vfs, built):
    before = built.walk("caches")
    code, out, _ = vfs("ingest", "photos", "--name", "photos", "--json")
    assert code == 0
    assert json.loads(out)["version"] == 1
    arguments = ["build", "photos", "--model", "efficientnet-lite0", "--layer", "blocks.6"]
    code, out, _ = vfs(*arguments, "--json")
    assert code == 0
    assert json.loads(out)[0]["version"] == 1
    assert built.walk("caches") == before
    dry = json.loads(vfs(*arguments, "--dry-run", "--json")[1])
    assert (dry[0]["name"], dry[0]["bytes_to_write"], dry[0]["finished_shards"]) == (CACHE, 0, 1)
    assert all(key.isidentifier() for key in dry[0])
    arguments[-1] = "blocks.5"
    dry = json.loads(vfs(*arguments, "--dry-run", "--json")[1])
    assert (dry[0]["bytes_to_write"], dry[0]["shards"]) == (
        24 * 7 * 7 * 192 * 2 + 1024 * (4 * 7 * 7 + 1),
        1,
    )
    assert "653.3 kB" in vfs(*arguments, "--dry-run")[1]
    for quota, *dry_run in (("0.5MB", "--dry-run"), ("600KiB",)):
        code, _, err = vfs(*arguments, "--quota", quota, *dry_run)
        assert code == 6
        assert "writes up to 653.3 kB, and the quota is" in err
    assert built.walk("caches") == before


def test_search_by_row_and_by_file_agree(vfs, built, tmp_path):
    region = ["--box", "8,8,40,40", "-k", "5", "--json"]
    code, out, _ = vfs("search", CACHE, "--row", 3, *region)
    assert code == 0
    by_row = json.loads(out)
    assert [hit["rank"] for hit in by_row] == [1, 2, 3, 4, 5]
    assert 3 not in [hit["image"] for hit in by_row]
    query = "photos/" + next(
        hit["uri"]
        for hit in json.loads(
            vfs("search", CACHE, "--row", 3, "--include-query-image", "--json")[1]
        )
        if hit["image"] == 3
    )
    code, out, _ = vfs("search", CACHE, "--image", query, *region, "--figure", "hits.png")
    assert code == 0
    by_file = json.loads(out)
    assert [hit["image"] for hit in by_file] == [hit["image"] for hit in by_row]
    for one, other in zip(by_row, by_file, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=2e-3)
    with Image.open("hits.png") as picture:
        assert picture.size[0] > 500


def test_a_region_that_the_model_hardly_sees_is_warned_of(vfs, built):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, err = vfs("search", CACHE, "--row", 3, "--box", "0,10,16,40")
    assert code == 0
    [line] = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert "crop" in line or "sees" in line


def test_search_filters_and_groups(vfs, built):
    code, out, _ = vfs("search", CACHE, "--row", 3, "--where", "label=odd", "--json")
    assert code == 0
    assert {hit["label"] for hit in json.loads(out)} == {"odd"}
    out = vfs("search", CACHE, "--row", 3, "--unique-by", "label", "--json")[1]
    assert sorted(hit["label"] for hit in json.loads(out)) == ["even", "odd"]
    assert "rank" in vfs("search", CACHE, "--row", 3, "--polygon", "5,5 40,5 20,40")[1]


def test_search_takes_a_mask_from_a_file(vfs, built):
    mask = np.zeros((48, 64), np.uint8)
    mask[8:40, 8:40] = 255
    Image.fromarray(mask).save("mask.png")
    boxed = vfs("search", CACHE, "--row", 3, "--box", "8,8,40,40", "--json")[1]
    assert vfs("search", CACHE, "--row", 3, "--mask", "mask.png", "--json")[1] == boxed
    Image.fromarray(mask[:, :60]).save("small.png")
    code, _, err = vfs("search", CACHE, "--row", 3, "--mask", "small.png")
    assert code == 2
    assert "64" in err


def test_verify_finds_what_is_damaged(vfs, built):
    assert vfs("verify", CACHE)[0] == 0
    identity = built.names("caches")[0]
    key = features_key(identity, 0)
    built.replace(key, built.read(key)[:-1] + b"x")
    code, out, err = vfs("verify", CACHE)
    assert code == 5
    assert "shard 0: features" in out
    assert "1 problem in 1 shard" in err
    assert json.loads(vfs("verify", CACHE, "--json")[1])["problems"][0]["shard"] == 0
    command = shlex.split(err.strip().rpartition("computed again by: ")[2])
    code, _, err = vfs(*command[1:])
    assert code == 0, err
    assert "shard 0 is computed again" in err
    assert "computed 1 shard" in err
    assert vfs("verify", CACHE)[0] == 0
    built.replace(cache_key(identity, "complete.json"), b'{"format": 99}')
    assert vfs("verify", CACHE)[0] == 5


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (2, ["search", CACHE]),
        (2, ["search", CACHE, "--row", "3", "--image", "x.png"]),
        (2, ["search", CACHE, "--row", "99"]),
        (2, ["search", CACHE, "--row", "3", "-k", "0"]),
        (2, ["search", CACHE, "--row", "3", "--figure", "hits.foo"]),
        (2, ["search", CACHE, "--row", "3", "--figure", "hits"]),
        (3, ["search", CACHE, "--row", "3", "--figure", "missing/hits.png"]),
        (6, ["demo", "--folder", "photos/even/0000.png/demo"]),
        (2, ["search", CACHE, "--row", "3", "--box", "1,2,3"]),
        (2, ["search", CACHE, "--row", "3", "--box", "nan,0,5,5"]),
        (2, ["search", CACHE, "--row", "3", "--box", "30,30,10,10"]),
        (2, ["search", CACHE, "--row", "3", "--polygon", "1,1 2,2"]),
        (2, ["search", CACHE, "--row", "3", "--where", "colour=red"]),
        (2, ["search", CACHE, "--row", "3", "--where", "__import__('os')"]),
        (2, ["search", CACHE, "--row", "3", "--where", "label=nothing"]),
        (2, ["search", CACHE, "--row", "3", "--unique-by", "colour"]),
        (3, ["search", CACHE, "--image", "missing.png"]),
        (3, ["search", "missing", "--row", "3"]),
        (3, ["show", "missing"]),
        (3, ["verify", "missing"]),
        (2, ["ingest", "empty", "--name", "x"]),
        (2, ["ingest", "photos", "--name", "../x"]),
        (2, [*BUILD, "blocks.6", "--name", "../x"]),
        (2, [*BUILD, "blocks.6", "--layer", "blocks.5", "--name", "both"]),
        (2, [*BUILD, "blocks.5", "--name", CACHE]),
        (2, [*BUILD, "blocks.6", "--dry-run", "--check", "digests"]),
        (2, [*BUILD, "blocks.6", "--quota", "much"]),
        (2, [*BUILD, "blocks.6", "--images", "torchvision:Nothing"]),
        (2, ["ingest", "photos", "--name", "x", "--path-column", "file"]),
        (2, ["ingest", "gopher://x/y", "--name", "x"]),
        (2, ["ingest", "https://user:secret@example.org/images.csv", "--name", "x"]),
        (2, ["build", "photos", "--model", "timm:hf-hub:evil/model", "--layer", "x"]),
        (2, ["build", "photos", "--model", "efficientnet-lite9", "--layer", "x"]),
        (2, ["build", "photos", "--model", "efficientnet-lite0", "--layer", "blocks.66"]),
        (2, ["build", "photos", "--model", "efficientnet-lite0", "--layer", "classifier"]),
        (2, ["layers", "efficientnet-lite0", "--checkpoint", "photos/even/0000.png"]),
        (2, ["frobnicate"]),
        (2, ["ls", "plates"]),
        (2, ["search", CACHE, "--row", "many"]),
        (2, ["-w", "ftp://x", "ls"]),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(vfs, built, code, arguments):
    Path("empty").mkdir()
    before = built.walk()
    given, out, err = vfs(*arguments)
    assert given == code, err
    assert out == ""
    assert "Traceback" not in err
    assert "secret" not in err
    *before_it, line = err.strip().splitlines()
    assert before_it in (
        [],
        ["untracked: no Prefect server is configured (--track starts one)"],
    )
    assert line.startswith("error: ")
    assert built.walk() == before


def test_where_the_workspace_is_given_is_told(vfs):
    code, _, err = vfs("ls", "-w", "elsewhere")
    assert code == 2
    assert err == (
        "error: No such option '-w': it stands before the command, as in `vfs -w FOLDER ls`\n"
    )


def test_a_traceback_is_shown_when_asked_for(vfs, monkeypatch):
    for arguments in (["--traceback", "show", "missing"], ["show", "missing", "--traceback"]):
        code, _, err = vfs(*arguments)
        assert code == 3
        assert "Traceback" in err
        assert "NotFoundError" in err
    monkeypatch.setenv("VFS_TRACEBACK", "1")
    assert "Traceback" in vfs("show", "missing")[2]
    monkeypatch.setenv("VFS_TRACEBACK", "0")
    assert "Traceback" not in vfs("show", "missing")[2]
    assert "--traceback" in vfs("--help")[1]
    assert vfs("show", "--", "--traceback")[0] == 3


def test_a_name_of_a_dataset_and_a_cache_is_told_apart_by_kind(vfs, built):
    assert vfs(*BUILD, "blocks.6", "--name", "photos")[0] == 0
    code, _, err = vfs("show", "photos")
    assert code == 2
    assert "--kind" in err
    for kind in ("dataset", "cache"):
        assert json.loads(vfs("show", "photos", "--kind", kind, "--json")[1])["type"] == kind


def test_a_figure_that_cannot_be_written_is_an_error_of_the_storage(vfs, built, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    code, _, err = vfs("search", CACHE, "--row", 3, "--figure", "hits.svg")
    assert code == 6
    assert "no space left" in err


def test_homes_are_expanded_where_the_shell_did_not(vfs, built, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "photos"))
    arguments = ["search", CACHE, "--image", "~/even/0000.png", "--figure", "~/hits.png"]
    assert vfs(*arguments)[0] == 0
    assert (tmp_path / "photos" / "hits.png").exists()


def test_a_torchvision_dataset_is_built_by_naming_it_again(vfs, monkeypatch):
    class Few(torchvision.datasets.FakeData):
        def __init__(self):
            super().__init__(size=5, image_size=(3, 48, 64))

    monkeypatch.setattr(torchvision.datasets, "FakeData", Few)
    assert vfs("ingest", "torchvision:FakeData", "--name", "photos")[0] == 0
    assert vfs(*BUILD, "blocks.6")[0] == 2
    code, _, err = vfs(*BUILD, "blocks.6", "--images", "torchvision:FakeData")
    assert code == 0, err
    assert "5 images" in err


def test_a_short_search_says_nothing_on_the_way(vfs, built):
    assert vfs("search", CACHE, "--row", 3)[2] == ""


def test_one_bad_entry_is_a_remark(vfs, built):
    built.create("catalog/caches/bad/00001.json", b'{"kind": "entry", "format": 99}')
    code, out, err = vfs("ls")
    assert code == 0
    assert CACHE in out
    assert err.startswith("left out: catalog/caches/bad/00001.json has format '99'")
    assert len(err.splitlines()) == 1
    assert vfs("search", CACHE, "--row", 3)[0] == 0


def test_the_workspace_may_come_from_the_environment(vfs, built, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setenv("VFS_WORKSPACE", os.fspath(tmp_path / "vfs-workspace"))
    assert CACHE in vfs("ls")[1]


def test_labels_cannot_control_the_terminal(vfs, tmp_path):
    write_photos(tmp_path / "images", 3)
    (tmp_path / "labels.csv").write_text("file,label\neven/0000.png,\x1b[31mred\x07\n")
    arguments = ["ingest", "images", "--labels", "labels.csv", "--name", "red"]
    assert vfs(*arguments)[0] == 0
    code, out, err = vfs("show", "red")
    assert code == 0
    assert "[31mred" in out
    assert "\x1b" not in out + err
    assert "\x07" not in out + err
