"""Write the small store of format 1 that must stay readable: ``python make_format_1.py FOLDER``.

It was run once, when the format was settled; what it wrote stands beside it and never changes. A
new format gets a store and a script of its own.
"""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from makers import cut_small, make_extractor, write_photos

import catalog
from vfs_ops import Workspace, build, ingest, query_from_row, search

folder = Path(sys.argv[1])
write_photos(folder / "photos", 20)
(folder / "photos" / "odd" / "0099.png").write_bytes(b"no image")
workspace = Workspace.at(str(folder / "workspace"))
dataset = ingest(str(folder / "photos"), workspace)
catalog.register_dataset(workspace, "photos", dataset, built_by="somebody")
patch = pytest.MonkeyPatch()
patch.setattr("socket.gethostname", lambda: "builder")
cut_small(patch)
hits = {}
for cache, layer in zip(build(dataset, make_extractor()), "02", strict=True):
    name = f"photos-toy-{layer}"
    catalog.register_cache(workspace, name, cache, dataset_name="photos", built_by="somebody")
    found = search(cache, query_from_row(cache, 3, boxes=[(8, 8, 40, 40)]), 5).to_frame()
    hits[layer] = json.loads(found.to_json(orient="records", double_precision=15))
(folder / "hits.json").write_text(json.dumps(hits, indent=1) + "\n")
# Where the photos were is of no use to others, and no reader needs it.
workspace.delete(f"datasets/{dataset.id}/source.json")
workspace.delete(f"datasets/{dataset.id}/stat.parquet")
