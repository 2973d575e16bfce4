"""What a build takes of memory and disk, told and compared with what there is before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from vfs_ops.builds.distribution import TASKS_PER_WORKER
from vfs_ops.builds.pipeline import BATCHES_AHEAD, BATCHES_BEHIND
from vfs_ops.caches.plans import Plan
from vfs_ops.errors import StorageFullError, TooLargeError
from vfs_ops.sizes import size
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

    from vfs_ops.models.extract import FeatureExtractor

PROCESS_BYTES: Final = 600 << 20
"""Python with torch, Dask and all other libraries loaded, before a model is."""
OUTPUTS_HELD: Final = 9
"""What goes into a part of the model, what comes out, scratch; and twice as much again in the
gaps between blocks of memory that are kept (`vfs_ops.builds.allocation`)."""


def worker_memory(extractor: FeatureExtractor, plans: Sequence[Plan]) -> int:
    """Project the peak memory of one process that builds, in bytes.

    The sum of: the process itself (`PROCESS_BYTES`); the weights; `OUTPUTS_HELD` times the largest
    output of any part of the model for one batch; and for each of the `TASKS_PER_WORKER` tasks
    under way the decoded batches (uint8), the feature maps between model and disk (float32), each
    layer's shard being gathered, and the largest of them once more as it is encoded and written.

    Parameters
    ----------
    extractor
        Model and layers; one image is run through it.
    plans
        Of the caches of the pass.
    """
    module = extractor.model.module
    weights = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    batch = max(plan.batch_size for plan in plans)
    pixels = int(np.prod(extractor.preprocessing.input_size)) * extractor.preprocessing.channels
    maps = sum(4 * int(np.prod(plan.image_shape)) for plan in plans)
    shards = [min(plan.images_per_shard, plan.images) * plan.image_bytes for plan in plans]
    task = (
        batch * ((BATCHES_AHEAD + 2) * pixels + (BATCHES_BEHIND + 2) * maps)
        + sum(shards)
        + max(shards)
    )
    model = weights + OUTPUTS_HELD * batch * extractor.largest_output()
    return PROCESS_BYTES + model + TASKS_PER_WORKER * task


def check_memory(needed: int, client: Client | None, processes: int = 1) -> None:
    """Refuse a build that needs more memory a process than there is.

    Parameters
    ----------
    needed
        Bytes of one process.
    client
        Of the cluster; each of its workers has a limit.
    processes
        Where there is none: how many share this machine, evenly, as a local cluster's do.

    Raises
    ------
    TooLargeError
    """
    limits = _worker_limits(client) if client is not None else [_machine_memory() // processes]
    limit = min(limits, default=0)
    if limit and needed > limit:
        raise TooLargeError(
            f"the build needs about {size(needed)} of memory a process, and {size(limit)} are "
            "there; use fewer workers a machine, fewer or deeper layers, or a larger machine"
        )


def check_space(needed: int, workspace: Workspace, quota: int | None) -> None:
    """Refuse a build that writes more than fits.

    Parameters
    ----------
    needed
        Bytes to write.
    quota
        Bytes that may be written; no bound but the disk's if None.

    Raises
    ------
    StorageFullError
    """
    if quota is not None and needed > quota:
        raise StorageFullError(
            f"the build writes up to {size(needed)}, and the quota is {size(quota)}; choose "
            "fewer or deeper layers, or raise the quota"
        )
    if workspace.protocol != "file":
        return
    folder = Path(workspace.path_of(""))
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageFullError(
            f"the build writes up to {size(needed)}, and {size(free)} are free at "
            f"{workspace.url}; free some, or use another workspace"
        )


def _worker_limits(client: Client) -> list[int]:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return [int(limit) for worker in workers if (limit := worker.get("memory_limit"))]


def _machine_memory() -> int:
    from distributed.system import memory_limit  # of the machine, or of the container

    return int(memory_limit())
