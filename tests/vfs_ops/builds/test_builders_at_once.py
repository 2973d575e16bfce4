"""Builders of the same caches, each a process of its own, on object storage."""

import contextlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from makers import make_extractor, stored_bytes

from vfs_ops.builds.builder import plan_build
from vfs_ops.caches.cache import open_cache

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("small_shards")]

SCRIPT = """
    import json, sys
    import pytest
    from makers import cut_small, make_extractor
    from vfs_ops.builds.builder import build
    from vfs_ops.datasets.dataset import open_dataset
    from vfs_ops.store.workspace import Workspace

    def tell(report):
        print(json.dumps([report.cache, report.shard]), flush=True)

    cut_small(pytest.MonkeyPatch())
    local, dataset, workspace = sys.argv[1:]
    dataset = open_dataset(Workspace.at(local), dataset)
    print("ready", flush=True)
    sys.stdin.readline()
    build(dataset, make_extractor(), workspace=Workspace.at(workspace), on_shard=tell)
"""


@pytest.fixture
def builders(dataset, s3_workspace):
    """Start two processes that wait, at the door of a build, for a line."""
    support = Path(__file__).parents[2] / "support"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(support), *sys.path])}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), dataset.workspace.url]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, dataset.id, s3_workspace.url],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(2)
        ]
        for process in started:
            stack.callback(process.kill)
        for process in started:
            assert process.stdout.readline() == "ready\n"
        yield started


def go(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def told(lines):
    return {tuple(json.loads(line)) for line in lines.splitlines()}


def stored(dataset, workspace):
    planned = plan_build(dataset, make_extractor(), workspace=workspace)
    return [stored_bytes(open_cache(workspace, cache.spec.id, dataset)) for cache in planned]


def test_builders_started_at_once_end_with_one_correct_cache(
    builders, dataset, s3_workspace, undisturbed
):
    for process in builders:
        go(process)
    computed = [told(process.communicate(timeout=120)[0]) for process in builders]
    assert [process.returncode for process in builders] == [0, 0]
    assert len(computed[0] | computed[1]) == 8  # a shard may be computed by both, none by nobody
    assert stored(dataset, s3_workspace) == undisturbed
    assert s3_workspace.walk("claims") == []


def test_what_a_killed_builder_leaves_is_finished_by_the_other(
    builders, dataset, s3_workspace, undisturbed
):
    killed, other = builders
    go(killed)
    assert killed.stdout.readline()
    killed.kill()
    killed.wait(60)
    planned = plan_build(dataset, make_extractor(), workspace=s3_workspace)
    begun = sum(cache.finished_shards for cache in planned)
    go(other)
    computed = told(other.communicate(timeout=120)[0])
    assert other.returncode == 0
    assert 0 < begun < 8
    assert len(computed) == 8 - begun  # nothing that has a receipt is computed again
    assert stored(dataset, s3_workspace) == undisturbed
