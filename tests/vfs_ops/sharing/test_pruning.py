"""What nothing refers to is listed and, as far as that is still so, removed; nothing else is."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from vfs_ops.builds import claims
from vfs_ops.builds.verification import verify
from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.caches.layout import cache_key
from vfs_ops.datasets.dataset import folder_of, open_dataset
from vfs_ops.errors import AccessError, DamagedError, IncompleteError, NotFoundError
from vfs_ops.sharing import pruning
from vfs_ops.sharing.mirroring import mirror_cache
from vfs_ops.sharing.pruning import prune
from vfs_ops.sharing.unused import Findings, find_unused
from vfs_ops.store.workspace import Workspace

NOW = timedelta(0)


@pytest.fixture
def filled(caches: list[Cache], any_workspace: Workspace) -> Workspace:
    """Return a workspace of any kind with both caches of the photos, and their dataset."""
    for cache in caches:
        mirror_cache(caches[0].workspace, any_workspace, cache.id)
    return any_workspace


def listed(space: Workspace, *referenced: str) -> dict[str, str]:
    return {found.key: found.kind for found in find(space, *referenced).unused}


def find(space: Workspace, *referenced: str) -> Findings:
    return find_unused(space, referenced, min_age=NOW)


def test_what_entries_name_stays(filled: Workspace, caches: list[Cache]) -> None:
    one, two = caches
    dataset = one.dataset.id
    assert listed(filled, one.id, two.id, dataset) == {}
    assert listed(filled, one.id, two.id) == {}  # the caches need the dataset
    assert listed(filled, one.id) == {cache_key(two.id): "cache"}
    assert listed(filled, dataset) == {cache_key(one.id): "cache", cache_key(two.id): "cache"}
    everything = find(filled)
    assert [found.kind for found in everything.unused] == ["cache", "cache", "dataset"]
    assert everything.unknown == ()
    objects = filled.walk()
    assert sum(found.objects for found in everything.unused) == len(objects)
    assert sum(found.bytes for found in everything.unused) == sum(each.size for each in objects)


def test_only_what_was_listed_is_removed(filled: Workspace, caches: list[Cache]) -> None:
    one, two = caches
    found = find(filled, one.id).unused
    told: list[Any] = []
    report = prune(filled, found, lambda: [one.id], progress=told.append)
    assert report.removed == found
    assert report.bytes == found[0].bytes > 0
    assert told[-1].done == told[-1].total == 1
    assert filled.walk(cache_key(two.id)) == []
    assert list(verify(open_cache(filled, one.id))) == []
    report = prune(filled, find(filled).unused, list)
    assert [each.kind for each in report.removed] == ["cache", "dataset"]
    assert filled.walk() == []


def test_reasons_are_given(filled: Workspace, caches: list[Cache]) -> None:
    one, two = caches
    filled.delete(cache_key(one.id, "complete.json"))
    filled.delete(f"{folder_of(one.dataset.id)}/dataset.json")
    reasons = {found.key: found.reason for found in find(filled).unused}
    assert reasons == {
        cache_key(one.id): "unfinished, and nobody is building it",
        cache_key(two.id): "no entry names it",
        folder_of(one.dataset.id): "unfinished, and nobody is ingesting it",
    }


def test_what_is_young_stays(filled: Workspace) -> None:
    assert find_unused(filled, []).unused == ()
    assert find_unused(filled, [], min_age=timedelta(hours=1)).unused == ()


def test_what_is_claimed_stays(filled: Workspace, caches: list[Cache]) -> None:
    one, two = caches
    with claims.held(filled, [two.id]):
        assert listed(filled) == {cache_key(one.id): "cache"}  # the dataset is needed
        filled.replace(f"claims/{two.id}/{'0' * 16}.json", b"{")  # nobody can say until when
    assert listed(filled) == {cache_key(one.id): "cache"}
    filled.delete("claims")
    assert len(listed(filled)) == 3


def test_claims_of_the_dead_go(
    filled: Workspace, caches: list[Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(claims, "LIFETIME", timedelta(seconds=-1))
        patch.setattr(Workspace, "delete", lambda self, key: None)
        with claims.held(filled, [caches[0].id]):
            pass
    assert listed(filled, *[cache.id for cache in caches]) == {f"claims/{caches[0].id}": "claim"}
    prune(filled, find(filled, *[cache.id for cache in caches]).unused, list)
    assert filled.walk("claims") == []


def test_staged_images_of_interrupted_ingests_go(any_workspace: Workspace) -> None:
    folder = f"staging/{'a' * 32}"
    any_workspace.create(f"{folder}/{'b' * 12}-00000.pack", b"123")
    any_workspace.create(f"{folder}/{'b' * 12}-00000.parquet", b"45")
    (found,) = find(any_workspace).unused
    assert (found.kind, found.key, found.bytes, found.objects) == ("staging", folder, 5, 2)
    prune(any_workspace, [found], list)
    assert any_workspace.walk() == []


def test_answers_of_searches_go_with_the_last_of_their_caches(
    filled: Workspace, caches: list[Cache]
) -> None:
    one, two = caches
    both, lost = f"searches/{'a' * 64}", f"searches/{'b' * 64}"
    for name in (f"{one.id}.parquet", f"{'0' * 64}.parquet", "search.json"):
        filled.create(f"{both}/{name}", b"answers")
    for name in (f"{two.id}.parquet", "search.json"):
        filled.create(f"{lost}/{name}", b"answers")
    filled.create(f"searches/{'c' * 64}/mine.csv", b"")
    assert listed(filled, one.id, two.id) == {}
    assert [stat.path for stat in find(filled).unknown] == [f"searches/{'c' * 64}/mine.csv"]
    prune(filled, find(filled, one.id).unused, lambda: [one.id])
    found = find(filled, one.id).unused
    assert [each.key for each in found] == [lost]
    assert "of caches that are not here" in found[0].reason
    assert find_unused(filled, [one.id]).unused == ()  # it is young
    mirror_cache(two.workspace, filled, two.id)
    assert prune(filled, found, lambda: [one.id]).kept == (
        (found[0], "a cache of it is here again"),
    )
    prune(filled, find(filled, one.id).unused, lambda: [one.id])
    prune(filled, find(filled, one.id).unused, lambda: [one.id])
    assert filled.names("searches") == ["a" * 64, "c" * 64]
    assert len(filled.names(both)) == 3


def test_files_of_killed_writes_go(tmp_path: Any) -> None:
    space = Workspace.at(str(tmp_path))
    space.create("catalog/index.json", b"1")
    left = tmp_path / "catalog" / f".index.json.{'a' * 16}"
    left.write_bytes(b"123")
    (tmp_path / ".hidden").write_bytes(b"my own")
    (tmp_path / "catalog" / f".own.{'A' * 16}").write_bytes(b"my own")
    own = [tmp_path / folder / f".own.{'a' * 16}" for folder in ("notes", "catalog/My notes")]
    for path in own:
        path.parent.mkdir()
        path.write_bytes(b"my own")
    assert find_unused(space, []).unused == ()
    before = time.time() - 90_000
    for path in (left, *own):
        os.utime(path, (before, before))
    (found,) = find_unused(space, []).unused
    assert (found.kind, found.key, found.bytes) == ("temporary", f"catalog/{left.name}", 3)
    prune(space, [found], list)
    assert not left.exists()
    assert (tmp_path / ".hidden").exists()
    assert space.read("catalog/index.json") == b"1"


def test_what_is_unknown_is_told_and_stays(filled: Workspace, caches: list[Cache]) -> None:
    known = len(find(filled).unused)
    own = [
        f"{cache_key(caches[0].id)}/notes.txt",
        f"{cache_key(caches[0].id)}/data.zarr/features/c/0/0/0/0.bak",
        f"{folder_of(caches[0].dataset.id)}/previews/cat.jpg",
        "caches/readme/a.txt",
        "datasets/list.csv",
        "staging/x/y",
        "claims/todo.json",
        "papers/one/draft.pdf",
        "top.txt",
    ]
    for key in own:
        filled.create(key, b"mine")
    others = ["catalog/cache/x/00001.json"]
    for key in others:
        filled.create(key, b"{}")
    findings = find(filled)
    assert sorted(stat.path for stat in findings.unknown) == sorted(own)
    assert len(findings.unused) == known
    prune(filled, findings.unused, list)
    assert sorted(stat.path for stat in filled.walk()) == sorted([*own, *others])


def test_what_comes_to_be_used_meanwhile_stays(filled: Workspace, caches: list[Cache]) -> None:
    one, two = caches
    found = find(filled).unused
    report = prune(filled, found, lambda: [one.id, one.dataset.id])
    assert [(each.key, why) for each, why in report.kept] == [
        (cache_key(one.id), "an entry names it now"),
        (folder_of(one.dataset.id), "an entry names it now"),
    ]
    assert list(verify(open_cache(filled, one.id))) == []
    assert filled.walk(cache_key(two.id)) == []


def test_what_changed_meanwhile_stays(filled: Workspace, caches: list[Cache]) -> None:
    one, two = caches
    found = find(filled).unused
    filled.create(cache_key(one.id, "receipts", "00099.json"), b"{}")
    with claims.held(filled, [two.id]):
        report = prune(filled, found, list)
    assert report.removed == ()
    assert [why.split()[0] for _, why in report.kept] == ["it", "claimed", "a"]
    open_cache(filled, two.id)


class Registry:
    """Entries that name something from the n-th look on."""

    def __init__(self, after: int, *ids: str) -> None:
        self.after, self.ids, self.looks = after, ids, 0

    def __call__(self) -> tuple[str, ...]:
        self.looks += 1
        return self.ids if self.looks > self.after else ()


def test_who_registers_in_the_last_moment_gets_it_back(
    filled: Workspace, caches: list[Cache]
) -> None:
    one, _ = caches
    (found,) = [each for each in find(filled).unused if each.key == cache_key(one.id)]
    report = prune(filled, [found], Registry(1, one.id))
    assert report.removed == ()
    assert list(verify(open_cache(filled, one.id))) == []
    datasets = [each for each in find(filled).unused if each.kind == "dataset"]
    for cache in caches:
        filled.delete(cache_key(cache.id))
    report = prune(filled, datasets, Registry(1, one.dataset.id))
    assert report.removed == ()
    assert open_dataset(filled, one.dataset.id).preview(0)


def test_a_build_that_begins_in_the_last_moment_finds_a_cache_to_finish(
    filled: Workspace, caches: list[Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = caches
    (found,) = [each for each in find(filled).unused if each.key == cache_key(one.id)]
    looks: list[int] = []

    def active(*given: Any) -> list[int]:
        looks.append(1)
        return [1] * len(looks)  # the second one sees another builder

    monkeypatch.setattr(pruning.claims, "active", active)
    report = prune(filled, [found], list)
    assert [why for _, why in report.kept] == ["somebody is building it"]
    open_cache(filled, one.id)


def test_a_prune_that_is_killed_leaves_nothing_broken(
    caches: list[Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = caches
    objects = len(one.workspace.walk(cache_key(one.id)))
    remove: Callable[..., None] = Workspace.delete_objects
    for after in range(objects):
        space = Workspace.in_memory()
        mirror_cache(one.workspace, space, one.id)
        found = find(space).unused
        left = [after]

        def limited(self: Workspace, keys: list[str], left: list[int] = left) -> None:
            for key in keys:
                if left[0] == 0:
                    raise AccessError("killed")
                left[0] -= 1
                remove(self, [key])

        with monkeypatch.context() as patch:
            patch.setattr(Workspace, "delete_objects", limited)
            with pytest.raises(AccessError, match="killed"):
                prune(space, found, list)
        if after == 0:
            assert list(verify(open_cache(space, one.id))) == []
            continue
        with pytest.raises((IncompleteError, NotFoundError)):
            open_cache(space, one.id)
        report = mirror_cache(one.workspace, space, one.id)  # as a build would, it completes it
        assert report.copied_objects == after
        if after % 5 == 0:
            assert list(verify(open_cache(space, one.id))) == []


def test_a_plan_that_cannot_be_read_stops(filled: Workspace, caches: list[Cache]) -> None:
    filled.replace(cache_key(caches[0].id, "plan.json"), b"{")
    with pytest.raises(DamagedError, match=r"plan\.json"):
        find(filled, caches[0].id)
    assert len(find(filled).unused) == 3  # it goes, so nobody asks what it needs


def test_https_is_not_pruned() -> None:
    with pytest.raises(AccessError):
        find(Workspace.at("https://localhost:1/x"))
