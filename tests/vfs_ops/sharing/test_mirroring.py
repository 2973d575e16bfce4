"""Mirrors: whole or not there, resumable, and only what is right is copied."""

import itertools
import json
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from vfs_ops.builds import claims
from vfs_ops.builds.verification import verify
from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.caches.commits import small_objects
from vfs_ops.caches.layout import cache_key, features_key, receipt_key, sq_norm_key
from vfs_ops.datasets.dataset import Dataset, folder_of, open_dataset
from vfs_ops.errors import (
    DamagedError,
    IncompleteError,
    MismatchError,
    NotFoundError,
    PlanMismatchError,
    StorageFullError,
    VfsError,
)
from vfs_ops.identity.canonical import canonical_json, parse_json
from vfs_ops.sharing.mirroring import mirror_cache, mirror_dataset
from vfs_ops.store.workspace import Workspace


def check_same(cache: Cache, target: Workspace) -> None:
    copy = open_cache(target, cache.id)
    assert copy.plan == cache.plan
    assert list(copy.receipts) == list(cache.receipts)
    assert list(verify(copy)) == []
    assert (copy.feature_maps(0, copy.count) == cache.feature_maps(0, cache.count)).all()
    assert copy.dataset.table().equals(cache.dataset.table())
    assert copy.dataset.preview(7) == cache.dataset.preview(7)


def nothing_to_see(target: Workspace, cache: Cache) -> bool:
    for act in (
        lambda: open_cache(target, cache.id),
        lambda: open_dataset(target, cache.dataset.id),
    ):
        with pytest.raises((NotFoundError, IncompleteError)):
            act()
    return True


def test_a_cache_is_mirrored(cache: Cache, any_workspace: Workspace) -> None:
    told: list[Any] = []
    report = mirror_cache(cache.workspace, any_workspace, cache.id, progress=told.append)
    assert not report.present
    assert (report.cache, report.dataset, report.previews) == (cache.id, cache.dataset.id, True)
    check_same(cache, any_workspace)
    copied = {stat.path: stat.size for stat in any_workspace.walk()}
    wanted = {
        stat.path: stat.size
        for folder in (cache_key(cache.id), folder_of(cache.dataset.id))
        for stat in cache.workspace.walk(folder)
    }
    assert copied.keys() == wanted.keys()
    hint = f"{folder_of(cache.dataset.id)}/source.json"
    assert copied | {hint: 0} == wanted | {hint: 0}
    assert report.copied_objects == len(copied)
    assert report.copied_bytes == sum(copied.values())
    assert [p.done for p in told if p.unit == "shards"] == [1, 2, 3, 4]
    assert [p.done for p in told if p.unit == "packs"] == [1]

    again = mirror_cache(cache.workspace, any_workspace, cache.id)
    assert again.present
    assert (again.copied_objects, again.kept_objects) == (0, 0)


def test_from_s3_to_a_folder(cache: Cache, s3_workspace: Workspace, tmp_path: Any) -> None:
    mirror_cache(cache.workspace, s3_workspace, cache.id)
    target = Workspace.at(str(tmp_path / "target"))
    mirror_cache(s3_workspace, target, cache.id)
    check_same(cache, target)


def test_from_https_to_a_folder(
    cache: Cache,
    public_workspace: Workspace,
    https_workspace: Workspace,
    https_proxy: Any,
    tmp_path: Any,
) -> None:
    mirror_cache(cache.workspace, public_workspace, cache.id)
    https_proxy.forget()
    target = Workspace.at(str(tmp_path / "target"))
    https_proxy.fail("503", path="features/c/", times=3)
    https_proxy.fail("cut", path="sq_norm/c/", times=2)
    mirror_cache(https_workspace, target, cache.id)
    check_same(cache, target)
    assert https_proxy.count(path="features/c/") == cache.shard_count + 3


def test_a_dataset_is_mirrored(dataset: Dataset, any_workspace: Workspace) -> None:
    report = mirror_dataset(dataset.workspace, any_workspace, dataset.id)
    assert (report.cache, report.dataset, report.present) == (None, dataset.id, False)
    copy = open_dataset(any_workspace, dataset.id)
    assert copy.table().equals(dataset.table())
    assert copy.preview(3) == dataset.preview(3)
    assert mirror_dataset(dataset.workspace, any_workspace, dataset.id).present


def break_off(monkeypatch: pytest.MonkeyPatch, target: Workspace, after: int) -> None:
    """Let the disk of the target be full after some writes."""
    create, counter, lock = Workspace.create, itertools.count(), threading.Lock()

    def limited(self: Workspace, key: str, data: bytes) -> bool:
        with lock:
            if self == target and next(counter) >= after:
                raise StorageFullError("no space left")
        return create(self, key, data)

    monkeypatch.setattr(Workspace, "create", limited)


def test_a_mirror_that_stops_shows_nothing_and_goes_on(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = mirror_cache(cache.workspace, Workspace.in_memory(), cache.id).copied_objects
    for after in range(objects):
        target = Workspace.in_memory()
        with monkeypatch.context() as patch:
            break_off(patch, target, after)
            with pytest.raises(StorageFullError):
                mirror_cache(cache.workspace, target, cache.id)
        with pytest.raises((NotFoundError, IncompleteError)):
            open_cache(target, cache.id)
        before = len(target.walk())
        assert before >= after
        report = mirror_cache(cache.workspace, target, cache.id)
        assert report.copied_objects == objects - before
        if after % 9 == 0:
            check_same(cache, target)


DAMAGE = [
    ("features", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    ("features", lambda data: data[: len(data) // 2]),
    ("features", None),
    ("sq_norm", lambda data: bytes(len(data))),
    ("receipts.parquet", lambda data: data[:-10]),
    ("data.zarr/x/c/0", lambda data: bytes(len(data))),
    ("data.zarr/features/zarr.json", lambda data: data.replace(b"float16", b"float32")),
    ("manifest", lambda data: data[: len(data) // 2]),
    ("manifest", None),
    ("pack", lambda data: data[:-1]),
    ("pack", lambda data: data[5:] + bytes(5)),
    ("pack", None),
]


@pytest.mark.parametrize(("what", "change"), DAMAGE)
def test_a_damaged_source_is_named_and_nothing_is_shown(
    cache: Cache, tmp_path: Any, what: str, change: Any
) -> None:
    keys = {
        "features": features_key(cache.id, 2),
        "sq_norm": sq_norm_key(cache.id, 1),
        "manifest": f"{folder_of(cache.dataset.id)}/manifest.parquet",
        "pack": f"{folder_of(cache.dataset.id)}/previews/00000.pack",
    }
    key = keys.get(what, f"{cache_key(cache.id)}/{what}")
    data = cache.workspace.read(key)
    if change is None:
        cache.workspace.delete(key)
    else:
        cache.workspace.replace(key, change(data))
    target = Workspace.at(str(tmp_path / "target"))
    with pytest.raises(VfsError, match=key.rpartition("/")[2]) as caught:
        mirror_cache(cache.workspace, target, cache.id)
    assert isinstance(caught.value, DamagedError | NotFoundError)
    assert nothing_to_see(target, cache)
    cache.workspace.replace(key, data)
    mirror_cache(cache.workspace, target, cache.id)
    check_same(cache, target)


def test_previews_may_be_left_out(cache: Cache, tmp_path: Any) -> None:
    target = Workspace.at(str(tmp_path / "target"))
    report = mirror_cache(cache.workspace, target, cache.id, previews=False)
    assert not report.previews
    copy = open_cache(target, cache.id)
    assert not [stat for stat in target.walk() if stat.path.endswith(".pack")]
    with pytest.raises(NotFoundError, match="was made without previews"):
        copy.dataset.preview(0)
    assert mirror_cache(cache.workspace, target, cache.id, previews=False).present
    # a mirror of the mirror has none either, and does not take that for damage
    third = Workspace.at(str(tmp_path / "third"))
    assert not mirror_cache(target, third, cache.id).previews
    with pytest.raises(NotFoundError, match="was made without previews"):
        open_dataset(third, cache.dataset.id).preview(0)
    # they can be brought later
    assert mirror_cache(cache.workspace, target, cache.id).previews
    check_same(cache, target)
    assert mirror_cache(cache.workspace, target, cache.id, previews=False).previews


def test_damage_in_the_target_is_mended(cache: Cache, tmp_path: Any) -> None:
    target = Workspace.at(str(tmp_path / "target"))
    mirror_cache(cache.workspace, target, cache.id)
    pack = f"{folder_of(cache.dataset.id)}/previews/00000.pack"
    for key in (features_key(cache.id, 1), receipt_key(cache.id, 1), pack):
        target.replace(key, target.read(key)[:-1])
    assert mirror_cache(cache.workspace, target, cache.id).present  # not looked at
    report = mirror_cache(cache.workspace, target, cache.id, repair=True)
    assert report.copied_objects == 3
    check_same(cache, target)
    target.replace(features_key(cache.id, 0), b"")
    target.replace(cache_key(cache.id, "complete.json"), b"{")
    mirror_cache(cache.workspace, target, cache.id)
    check_same(cache, target)


def test_a_cache_that_the_target_built_itself_is_left(cache: Cache, tmp_path: Any) -> None:
    target = Workspace.at(str(tmp_path / "target"))
    mirror_cache(cache.workspace, target, cache.id)
    key = cache_key(cache.id, "complete.json")
    document = parse_json(target.read(key), key)
    document["objects"]["receipts.parquet"] = "0" * 64
    target.replace(key, canonical_json(document))
    before = {stat.path: target.read(stat.path) for stat in target.walk()}
    assert mirror_cache(cache.workspace, target, cache.id, repair=True).present
    assert {stat.path: target.read(stat.path) for stat in target.walk()} == before


def test_an_unfinished_build_in_the_target_is_not_mixed(cache: Cache, tmp_path: Any) -> None:
    target = Workspace.at(str(tmp_path / "target"))
    plan = json.loads(cache.workspace.read(cache_key(cache.id, "plan.json")))
    plan["images_per_shard"] = 8
    target.create(cache_key(cache.id, "plan.json"), json.dumps(plan).encode())
    with pytest.raises(PlanMismatchError, match="prune"):
        mirror_cache(cache.workspace, target, cache.id)
    assert nothing_to_see(target, cache)


def test_a_cache_that_is_being_built_is_left_to_its_builder(cache: Cache, tmp_path: Any) -> None:
    target = Workspace.at(str(tmp_path / "target"))
    key = features_key(cache.id, 1)
    with claims.held(target, [cache.id]):
        target.create(key, b"computed elsewhere")
        with pytest.raises(IncompleteError, match="being built"):
            mirror_cache(cache.workspace, target, cache.id)
        assert target.read(key) == b"computed elsewhere"
    mirror_cache(cache.workspace, target, cache.id)
    check_same(cache, target)
    assert claims.active(target, cache.id) == []


def test_two_mirrors_share_the_work(cache: Cache, any_workspace: Workspace) -> None:
    def mirror(_: int) -> int:
        return mirror_cache(cache.workspace, any_workspace, cache.id).copied_objects

    with ThreadPoolExecutor(3) as executor:
        copied = sum(executor.map(mirror, range(3)))
    assert copied == len(any_workspace.walk())
    check_same(cache, any_workspace)


def test_a_mirror_that_was_killed_is_run_again_at_once(cache: Cache, tmp_path: Any) -> None:
    script = f"""
        import os, sys
        from vfs_ops.sharing.mirroring import mirror_cache
        from vfs_ops.store.workspace import Workspace
        def progress(told):
            if told.unit == "shards" and told.done == 2:
                os.kill(os.getpid(), 9)
        target = Workspace.at({str(tmp_path / "target")!r})
        mirror_cache(Workspace({cache.workspace.url!r}), target, {cache.id!r}, progress=progress)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == -9
    target = Workspace.at(str(tmp_path / "target"))
    assert nothing_to_see(target, cache)
    report = mirror_cache(cache.workspace, target, cache.id)
    assert report.kept_objects >= 2 * 4
    check_same(cache, target)


def test_local_folders_are_told_to_nobody(cache: Cache, photos: Any, s3_workspace: Any) -> None:
    mirror_cache(cache.workspace, s3_workspace, cache.id)
    for stat in s3_workspace.walk():
        if stat.path.endswith(".json"):
            assert str(photos) not in s3_workspace.read(stat.path).decode()


def test_a_shared_workspace_is_not_believed_where_local_images_are(
    cache: Cache, s3_workspace: Workspace, tmp_path: Any
) -> None:
    mirror_cache(cache.workspace, s3_workspace, cache.id)
    hint = {"kind": "files", "root": "file:///etc"}
    s3_workspace.replace(f"{folder_of(cache.dataset.id)}/source.json", canonical_json(hint))
    target = Workspace.at(str(tmp_path / "target"))
    mirror_cache(s3_workspace, target, cache.id)
    assert target.read_optional(f"{folder_of(cache.dataset.id)}/source.json") is None


def test_what_cannot_be_mirrored(cache: Cache, tmp_path: Any) -> None:
    target = Workspace.at(str(tmp_path / "target"))
    with pytest.raises(MismatchError, match="two workspaces"):
        mirror_cache(cache.workspace, cache.workspace, cache.id)
    with pytest.raises(NotFoundError):
        mirror_cache(cache.workspace, target, "0" * 64)
    cache.workspace.delete(cache_key(cache.id, "complete.json"))
    with pytest.raises(IncompleteError):
        mirror_cache(cache.workspace, target, cache.id)
    assert target.walk() == []


def test_requests_of_a_mirror(cache: Cache, s3_workspace: Workspace, s3_proxy: Any) -> None:
    mirror_cache(cache.workspace, s3_workspace, cache.id)
    shards = cache.shard_count
    objects = 4 * shards + len(small_objects()) + 6  # commit, dataset, manifest, pack, hints
    claim = 1
    assert s3_proxy.counts()["PUT"] == objects + claim
    assert s3_proxy.counts()["GET"] <= 16
