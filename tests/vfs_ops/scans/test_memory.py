"""What a search takes of the memory, measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_caches import made_cache

from vfs_ops.store.workspace import Workspace

ROOT = Path(__file__).parents[3]
SEARCH = """
import json, sys
from pathlib import Path

import numpy as np
from made_caches import made_query
from vfs_ops.caches.cache import open_cache
from vfs_ops.scans.plan import plan_scan
from vfs_ops.scans.search import search
from vfs_ops.store.workspace import Workspace


def resident(name):
    [line] = [s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(name)]
    return 1024 * int(line.split()[1])


def queries(cache, count):
    rng = np.random.default_rng(1)
    maps = rng.standard_normal((count, 3, 3, cache.channels), np.float32)
    return [made_query(cache, np.ones((3, 3)), one) for one in maps]


workspace, threads = Workspace.at(sys.argv[1]), 2
small, large = (open_cache(workspace, one) for one in sys.argv[2:])
some = [("label", "==", "label 3")]
# what only the first search loads
search(small, queries=queries(small, 20), k=20, threads=threads)
found = []
for count, where in ((20, None), (2, some), (80, None)):
    asked = queries(large, count)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    search(large, queries=asked, k=20, threads=threads, where=where)
    taken = resident("VmHWM") - before
    plan = plan_scan(large, threads=threads, queries=asked, where=where)
    found.append([taken, plan.memory_bytes, plan.ranged])
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is told by /proc")
def test_a_search_takes_no_more_memory_than_its_plan_says(tmp_path: Path) -> None:
    workspace, rng = Workspace.at(str(tmp_path)), np.random.default_rng(0)
    maps = rng.standard_normal((1600, 7, 7, 256), np.float32).astype(np.float16)
    small = made_cache(workspace, maps[:16], images_per_shard=8, images_per_chunk=4)
    large = made_cache(workspace, maps, images_per_shard=512, images_per_chunk=4)
    command = [sys.executable, "-c", SEARCH, workspace.url, small.id, large.id]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    whole, filtered, many = json.loads(done.stdout)
    for (taken, planned, ranged), shards in ((whole, 0), (filtered, 4), (many, 0)):
        assert maps.nbytes / 8 < taken <= planned < 6 * maps.nbytes
        assert ranged == shards
