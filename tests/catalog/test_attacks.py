"""A workspace that an attacker wrote: using it runs no code, reads no local file, asks no host.

What Python opens, connects to and starts is heard by an audit hook, so that a lie in an error
message would not help.
"""

import json
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from numcodecs import Zstd

import catalog
from catalog.about import About
from flows.cli import main
from vfs_ops.caches.cache import open_cache
from vfs_ops.caches.commits import commit
from vfs_ops.caches.layout import begin, cache_key, features_key, sha256, write_receipt, write_shard
from vfs_ops.caches.recipes import load_extractor
from vfs_ops.datasets.dataset import folder_of, open_dataset
from vfs_ops.datasets.manifests import encode_manifest
from vfs_ops.errors import (
    DamagedError,
    InputError,
    PredicateError,
    UnsafeMetadataError,
    VfsError,
)
from vfs_ops.identity.canonical import canonical_json, document_id
from vfs_ops.scans.queries import query_from_row
from vfs_ops.scans.search import search

HARMFUL = ("socket.connect", "socket.getaddrinfo", "os.system", "subprocess.Popen", "os.exec")
HEARD = []
LISTENING = []


def hook(event, arguments):
    if not LISTENING:
        return
    if event in HARMFUL:
        HEARD.append((event, str(arguments)))
    elif event == "open" and "secret" in str(arguments[0]):
        HEARD.append((event, str(arguments[0])))


sys.addaudithook(hook)


@pytest.fixture
def secret(tmp_path):
    """Return a local file that nobody may read, and fail if somebody did, or did worse."""
    file = tmp_path / "elsewhere" / "secret.png"
    file.parent.mkdir()
    file.write_bytes(b"not for you")
    HEARD.clear()
    LISTENING.append(True)
    yield file
    LISTENING.clear()
    assert HEARD == []


def test_the_hook_hears(secret, tmp_path):
    secret.read_bytes()
    assert [("open", str(secret))] == HEARD
    HEARD.clear()


def forge(cache, plan=(), **extractor):
    """Store the features of a cache as those of another extractor, whole and committed."""
    spec = replace(cache.spec, extractor=replace(cache.spec.extractor, **extractor))
    forged = replace(cache.plan, cache=spec.id, **dict(plan))
    begin(cache.workspace, spec, forged, cache.probe)
    for receipt in cache.receipts:
        features = cache.read_shard(receipt.shard).features
        fields = write_shard(cache.workspace, forged, receipt.shard, features, {}).fields
        write_receipt(cache.workspace, spec.id, replace(receipt, **fields))
    commit(cache.workspace, forged)
    return open_cache(cache.workspace, spec.id)


def use(workspace, name):
    """Do all with an entry that a person does who only looks and searches."""
    catalog.find_all(workspace, text=name)
    catalog.publish(workspace)
    cache = catalog.open(name, workspace)
    return cache, search(cache, query_from_row(cache, 3, boxes=[(8, 8, 40, 40)]), 3)


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("timm:hf-hub:evil/model", "timm:x"),
        ("timm:hf_hub:evil/model", "timm:x"),
        ("timm:local-dir:{folder}", "timm:x"),
        ("hf-hub:evil/model", "x"),
        ("torchvision:../../{folder}/secret.png", "torchvision:DEFAULT"),
        ("timm:resnet10t", "timm:hf-hub:evil/model"),
        ("timm:resnet10t", "file://{folder}/secret.png"),
        ("timm:resnet10t", "https://127.0.0.1:9/weights.pt"),
        ("os.system", "touch x"),
        ("custom:__import__('os').system('x')", "given"),
    ],
)
def test_models_of_recipes_are_names_in_registries(caches, secret, model, weights, capsys):
    names = {"folder": str(secret.parent)}
    plan = {"weights": weights.format(**names)}
    forged = forge(caches[0], plan, model=model.format(**names))
    workspace = forged.workspace
    catalog.register_cache(workspace, "evil", forged, dataset_name="photos")
    cache, hits = use(workspace, "evil")
    assert len(hits.to_frame()) == 3
    with pytest.raises(InputError):
        load_extractor(cache)
    with pytest.raises(SystemExit) as ended:
        main(["-w", workspace.url, "search", "evil", "--image", __file__, "--box", "0,0,9,9"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "uri",
    [
        "file://{secret}",
        "{secret}",
        "../../../elsewhere/secret.png",
        "simplecache::file://{secret}",
        "https://127.0.0.1:9/x::file://{secret}",
        "zip://secret.png::{secret}",
        "reference://x::file://{secret}",
        "local://{secret}",
    ],
)
def test_uris_of_a_manifest_stay_where_they_belong(dataset, secret, uri):
    workspace, table = dataset.workspace, dataset.table()
    uris = [uri.format(secret=secret), *table["uri"].to_pylist()[1:]]
    place = table.schema.get_field_index("uri")
    forged = table.set_column(place, table.schema.field("uri"), pa.array(uris))
    manifest = encode_manifest(forged)
    document = {**dataset.document, "rows": sha256(manifest)}
    identity = document_id(document)
    for stat in workspace.walk(folder_of(dataset.id)):
        workspace.create(stat.path.replace(dataset.id, identity), workspace.read(stat.path))
    workspace.replace(f"{folder_of(identity)}/manifest.parquet", manifest)
    workspace.replace(f"{folder_of(identity)}/dataset.json", canonical_json(document))
    opened = open_dataset(workspace, identity)
    catalog.register_dataset(workspace, "evil", opened)
    catalog.publish(workspace)
    assert opened.table(["label"]).num_rows == 60
    with pytest.raises(VfsError):
        opened.reader().read(0)  # asked by a build


@pytest.mark.parametrize(
    "changes",
    [
        {"codecs": [{"name": "numcodecs.pickle"}]},
        {"codecs": [{"name": "pickle", "configuration": {"protocol": 5}}]},
        {"codecs": [{"name": "numcodecs.json2"}]},
        {"codecs": [{"name": "file", "configuration": {"url": "file:///etc/passwd"}}]},
        {"shape": [1 << 40, 1 << 20, 1 << 20, 1 << 20]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1 << 40]}}},
        {"data_type": "object"},
        {"storage_transformers": [{"name": "reference", "configuration": {"fo": "file:///etc"}}]},
        {"chunk_key_encoding": {"name": "../../elsewhere", "configuration": {"separator": "/../"}}},
    ],
)
def test_zarr_metadata_are_not_obeyed(caches, secret, changes):
    cache = caches[0]
    workspace, name = cache.workspace, "data.zarr/zarr.json"
    catalog.register_cache(workspace, "evil", cache, dataset_name="photos")
    key = f"{cache_key(cache.id)}/{name}"
    group = json.loads(workspace.read(key))
    for array in group["consolidated_metadata"]["metadata"].values():
        array.update(changes)
    data = json.dumps(group).encode()
    workspace.replace(key, data)
    done = json.loads(workspace.read(cache_key(cache.id, "complete.json")))
    done["objects"][name] = sha256(data)  # the attacker signs it too
    workspace.replace(cache_key(cache.id, "complete.json"), json.dumps(done).encode())
    with pytest.raises(UnsafeMetadataError):
        catalog.open("evil", workspace)


def test_a_shard_that_would_decode_to_gigabytes_is_refused(caches, secret):
    forged = forge(caches[0], {"codec": "zstd"}, model="custom:bomb")
    key = features_key(forged.id, 0)
    data = forged.workspace.read(key)
    bomb = Zstd(level=1).encode(bytes(1 << 28))
    forged.workspace.replace(key, bomb + data[len(bomb) :])
    catalog.register_cache(forged.workspace, "evil", forged, dataset_name="photos")
    with pytest.raises(DamagedError):
        use(forged.workspace, "evil")


QUERIES = [
    "@__builtins__.open('/secret').read()",
    "__import__('os').system('touch secret')",
    "label.__class__.__mro__[1].__subclasses__()",
    "`label` == 'even' or @exit()",
]


@pytest.mark.parametrize("text", QUERIES)
def test_texts_are_never_evaluated(caches, secret, text):
    workspace, cache = caches[0].workspace, caches[0]
    about = About(owner=text, description=text, citation=text)
    catalog.register_cache(workspace, "evil", cache, dataset_name="photos", about=about)
    opened, _ = use(workspace, "evil")
    assert len(catalog.find_all(workspace, [("owner", "==", text)])) == 1
    query = query_from_row(opened, 3, boxes=[(8, 8, 40, 40)])
    for where in (text, [(text, "==", 1)], [("label", text, 1)], [text]):
        with pytest.raises(PredicateError):
            search(opened, query, 1, where=where)
        with pytest.raises(PredicateError):
            catalog.find_all(workspace, where)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../../elsewhere/secret.png"},
        {"name": "../../elsewhere"},
        {"facts": {"dataset": {"name": "photos", "id": "../../elsewhere/secret.png"}}},
        {"facts": {"dataset": {"name": "file://{secret}", "id": "0" * 64}}},
        {"facts": {"recipe": {"kind": "cache", "model": "hf-hub:evil"}}},
        {"facts": {"model": "timm:hf-hub:evil/model"}},
        {"facts": {"versions": {"__reduce__": ["os.system", "x"]}}},
    ],
)
def test_records_that_point_elsewhere_are_left_out(caches, secret, changes):
    workspace = caches[0].workspace
    entry = catalog.register_cache(workspace, "evil", caches[0], dataset_name="photos")
    document = entry.document()
    facts = {**document["facts"], **changes.get("facts", {})}
    data = json.dumps({**document, **changes, "facts": facts}).encode()
    workspace.replace(entry.key, data)
    assert len(catalog.read_contents(workspace).problems) == 1
    assert catalog.find_all(workspace).empty
    with pytest.raises(VfsError):
        catalog.open("evil", workspace)
    assert catalog.publish(workspace).caches == 0


def test_fields_that_this_version_does_not_know_lead_nowhere(caches, secret):
    workspace = caches[0].workspace
    entry = catalog.register_cache(workspace, "evil", caches[0], dataset_name="photos")
    places = {
        "workspace": "https://127.0.0.1:9/",
        "url": f"file://{secret}",
        "py/object": "os.system",
    }
    facts = {**entry.facts, **places}
    workspace.replace(
        entry.key, json.dumps({**entry.document(), **places, "facts": facts}).encode()
    )
    cache, hits = use(workspace, "evil")
    assert cache.workspace == workspace
    assert np.isfinite(hits.to_frame()["score"]).all()


def test_a_record_of_a_gigabyte_is_not_read(caches, secret):
    workspace = caches[0].workspace
    entry = catalog.register_cache(workspace, "evil", caches[0], dataset_name="photos")
    workspace.replace(entry.key, b" " * (1 << 20) + entry.encode())
    with pytest.raises(DamagedError, match="at most"):
        catalog.open("evil", workspace)
