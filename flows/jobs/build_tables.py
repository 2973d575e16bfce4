"""The plan of a build and the shards it made, as tables for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flows.console import counted, size
from flows.watching import Cell, Table

if TYPE_CHECKING:
    from vfs_ops.builds.builder import PlannedCache
    from vfs_ops.builds.reports import ShardReport


def plan_table(dataset: str, names: Sequence[str], planned: Sequence[PlannedCache]) -> Table:
    """Return what a build would do, in few columns: Prefect's pages are narrow.

    Parameters
    ----------
    dataset
        Its name.
    names
        Of the planned caches.
    planned
        As `vfs_ops.builds.builder.plan_build` returns them.
    """
    rows: tuple[Mapping[str, Cell], ...] = tuple(
        {
            "cache": name,
            "shards": cache.plan.shard_count,
            "finished": cache.finished_shards,
            "to copy": cache.copied_shards,
            "to write": size(cache.bytes_to_write),
            "memory": size(cache.worker_memory),
        }
        for name, cache in zip(names, planned, strict=True)
    )
    written = sum(cache.bytes_to_write for cache in planned)
    todo = f"at most {size(written)} to write" if written else "nothing to do"
    images = counted(max(cache.plan.images for cache in planned), "image")
    caches = counted(len(planned), "cache")
    title = f"Plan of {caches} of the {images} of dataset {dataset}: {todo}"
    if written:
        title += "; memory is that of a worker"
    return Table(f"plan-{dataset}", title, rows)


def shard_table(
    dataset: str, names: Mapping[str, str], slowest: Sequence[ShardReport], count: int
) -> Table:
    """Return which shards a build made, in how many seconds, and where.

    Parameters
    ----------
    dataset
        Its name.
    names
        Of caches, by their ids.
    slowest
        The shards that took longest, as the build told them.
    count
        Of all shards.
    """
    rows: tuple[Mapping[str, Cell], ...] = tuple(
        {
            "cache": names[report.cache],
            "shard": report.shard,
            "images": report.images,
            "size": size(report.bytes),
            "seconds": round(report.seconds, 3),
            "machine": report.host,
            "worker": report.worker or "this process",
            "action": report.action,
        }
        for report in sorted(slowest, key=lambda report: (names[report.cache], report.shard))
    )
    title = f"{counted(count, 'shard')} of dataset {dataset}"
    if count > len(rows):
        title += f"; the {len(rows)} slowest are shown"
    return Table(f"shards-{dataset}", title, rows)
