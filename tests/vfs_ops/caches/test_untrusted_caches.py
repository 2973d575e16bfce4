"""Whatever somebody else stored: opening, reading and verifying it fails with a typed error."""

import json
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfs_ops.builds.verification import verify
from vfs_ops.caches.cache import open_cache
from vfs_ops.caches.commits import small_objects
from vfs_ops.caches.layout import cache_key, features_key, receipt_key, sha256, sq_norm_key
from vfs_ops.errors import VfsError

JSON_OBJECTS = ["cache.json", "plan.json", "complete.json", "data.zarr/zarr.json"]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(
        [0, -1, 1 << 31, 1 << 63, 10**400, "", "../..", "a" * 64, "\ud800", "float16"]
    )
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


def paths_of(document, path=()):
    """Yield the path of every value in a document."""
    yield path
    items = document.items() if isinstance(document, dict) else []
    items = enumerate(document) if isinstance(document, list) else items
    for key, value in items:
        yield from paths_of(value, (*path, key))


def changed(document, path, value):
    if not path:
        return value
    copied = document.copy()
    copied[path[0]] = changed(document[path[0]], path[1:], value)
    return copied


def use(workspace, identity):
    """Do all that a reader does."""
    cache = open_cache(workspace, identity)
    repr(cache)
    verify(cache)
    for shard in range(cache.shard_count):
        cache.read_shard(shard)
    cache.feature_map(20)
    cache.to_xarray()["features"][3].load()


def try_use(workspace, identity):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            use(workspace, identity)
        except VfsError:
            return


settled = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def try_with(cache, replaced, forged=()):
    """Use the cache with some objects replaced; `forged` ones are named anew by the commit."""
    commit_key = cache_key(cache.id, "complete.json")
    commit = cache.workspace.read(commit_key)
    kept = {key: cache.workspace.read(key) for key in replaced}
    names = {name: sha256(replaced[f"{cache_key(cache.id)}/{name}"]) for name in forged}
    try:
        if names:
            document = json.loads(commit)
            document["objects"].update(names)
            cache.workspace.replace(commit_key, json.dumps(document).encode())
        for key, data in replaced.items():
            if data is None:
                cache.workspace.delete(key)
            else:
                cache.workspace.replace(key, data)
        try_use(cache.workspace, cache.id)
    finally:
        for key, data in {commit_key: commit, **kept}.items():
            cache.workspace.replace(key, data)


@pytest.mark.parametrize("name", JSON_OBJECTS)
@settled
@given(data=st.data())
def test_any_value_in_a_document(cache, name, data):
    key = f"{cache_key(cache.id)}/{name}"
    document = json.loads(cache.workspace.read(key))
    path = data.draw(st.sampled_from(list(paths_of(document))))
    mutated = json.dumps(changed(document, path, data.draw(values))).encode()
    forged = [name] if name != "complete.json" and data.draw(st.booleans()) else []
    try_with(cache, {key: mutated}, forged)


@settled
@given(data=st.data())
def test_any_value_in_a_receipt_of_an_unfinished_cache(cache, data):
    key = receipt_key(cache.id, 1)
    document = json.loads(cache.workspace.read(key))
    path = data.draw(st.sampled_from(list(paths_of(document))))
    mutated = json.dumps(changed(document, path, data.draw(values))).encode()
    try_with(cache, {key: mutated, cache_key(cache.id, "complete.json"): None})


@settled
@given(data=st.data())
def test_any_change_of_the_bytes_of_an_object(cache, data):
    folder = f"{cache_key(cache.id)}/"
    keys = [folder + name for name in [*small_objects(), "complete.json"]]
    keys += [features_key(cache.id, 1), sq_norm_key(cache.id, 1)]
    key = data.draw(st.sampled_from(keys))
    whole = cache.workspace.read(key)
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, min(len(whole), start + 40)))
    mutated = whole[:start] + data.draw(st.binary(max_size=40)) + whole[stop:]
    name = key.removeprefix(folder)
    try_with(cache, {key: mutated}, [name] if name in small_objects() else [])
