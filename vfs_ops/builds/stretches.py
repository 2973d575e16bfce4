"""What is computed in one go: a stretch of rows made of whole shards of every cache of a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vfs_ops.caches.layout import receipt_key
from vfs_ops.caches.plans import Plan
from vfs_ops.identity.spec import CacheSpec
from vfs_ops.store.workspace import Workspace


@dataclass(frozen=True)
class PendingCache:
    """A cache that one forward pass serves, perhaps beside others."""

    layer: int
    """Which of the extractor's outputs."""
    spec: CacheSpec
    plan: Plan

    def shards_of(self, rows: range) -> range:
        """Return the shards that lie in a stretch."""
        size = self.plan.images_per_shard
        return range(rows.start // size, -(-rows.stop // size))


def alike(pending: Sequence[PendingCache]) -> list[list[PendingCache]]:
    """Group caches that the same forward passes serve: of one batch size and number of threads."""
    groups: dict[tuple[int, int], list[PendingCache]] = {}
    for cache in pending:
        groups.setdefault((cache.plan.batch_size, cache.plan.threads or 0), []).append(cache)
    return [groups[key] for key in sorted(groups)]


@dataclass(frozen=True)
class Stretch:
    """Rows of whole shards of all caches of a pass, and which of those shards are missing."""

    rows: range
    missing: tuple[frozenset[int], ...]
    """Of each cache of the pass, in order."""

    def wanted(self, pending: Sequence[PendingCache], row: int) -> list[int]:
        """Return the places of the caches in whose missing shards a row lies."""
        return [
            place
            for place, (cache, missing) in enumerate(zip(pending, self.missing, strict=True))
            if row // cache.plan.images_per_shard in missing
        ]

    def batches(self, pending: Sequence[PendingCache]) -> Iterator[range]:
        """Yield the rows of each forward pass: those that a missing shard needs.

        They start at multiples of the batch size, so that who goes on computes what an
        undisturbed build does.
        """
        size = pending[0].plan.batch_size
        for start in range(self.rows.start, self.rows.stop, size):
            if self.wanted(pending, start):
                yield range(start, min(start + size, self.rows.stop))


def stretch_images(pending: Sequence[PendingCache]) -> int:
    """Return the rows of a full stretch: the largest shard's; sizes of shards are powers of two."""
    return max(cache.plan.images_per_shard for cache in pending)


def stretches(pending: Sequence[PendingCache], finished: Sequence[frozenset[int]]) -> list[Stretch]:
    """Return the stretches in which a shard is missing, in order of rows.

    Parameters
    ----------
    pending
        Caches of the same images and the same batch size.
    finished
        Shards of each that have a receipt.
    """
    count, size = pending[0].plan.images, stretch_images(pending)
    found = []
    for start in range(0, count, size):
        rows = range(start, min(start + size, count))
        missing = tuple(
            frozenset(cache.shards_of(rows)) - done
            for cache, done in zip(pending, finished, strict=True)
        )
        if any(missing):
            found.append(Stretch(rows, missing))
    return found


def still_missing(
    workspace: Workspace, pending: Sequence[PendingCache], stretch: Stretch
) -> Stretch:
    """Return a stretch without the shards that another builder has finished meanwhile."""
    missing = tuple(
        frozenset(
            shard for shard in shards if not workspace.exists(receipt_key(cache.plan.cache, shard))
        )
        for cache, shards in zip(pending, stretch.missing, strict=True)
    )
    return Stretch(stretch.rows, missing)
