"""The job `verify_cache`: read everything again, and compute a sample anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import catalog
from flows.console import counted
from flows.jobs.clusters import check_optional_cluster, optional_client
from flows.jobs.job import Job
from flows.jobs.repairs import repair_advice
from flows.patience import doing
from flows.watching import Table, Watcher
from vfs_ops.errors import DamagedError, NotFoundError
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.builds.checks import Problem
    from vfs_ops.caches.cache import Cache
    from vfs_ops.models.extract import FeatureExtractor


@dataclass(frozen=True)
class Verified:
    """A cache that is whole."""

    cache: str
    """Cache id."""
    shards: int
    """Shards that were read."""
    bytes: int
    """Size of its features."""


@dataclass(frozen=True, kw_only=True)
class VerifyJob(Job):
    """Check that a cache is what was written, and that its model computes it."""

    workspace: str
    """URL of the workspace."""
    cache: str
    """Name or id of the cache."""
    sample: int = 32
    """Images that are computed anew and compared; 0 needs neither model nor images."""
    checkpoint: str | None = None
    """For a cache made with a local checkpoint: the file."""
    device: str | None = None
    """As ``cpu`` or ``cuda:0``; a GPU if there is one."""
    images: str | None = None
    """Where the images are now, if not where they were ingested from."""
    cluster: str | None = None
    """Where the shards are read: ``local``, ``cuda`` or the address of a Dask scheduler; threads of
    this process by default."""

    def run(self, watcher: Watcher | None = None) -> Verified:
        """Verify; the table of problems is shown if there are any.

        Raises
        ------
        DamagedError
            If there are problems; the first are named.
        NotFoundError, IncompleteError, AccessError, UnavailableError, StorageError
            If the cache, its model or its images cannot be read.
        InputError, ClusterError
            If the cluster cannot be used.
        """
        watcher = watcher or Watcher()
        check_optional_cluster(self.cluster)
        cache, extractor = watcher.stage("open", self._open)
        problems = watcher.stage(
            "verify",
            lambda: self._problems(cache, extractor, watcher),
        )
        if problems:
            rows = tuple({"shard": problem.shard, "what": problem.what} for problem in problems)
            title = f"{counted(len(problems), 'problem')} of cache {self.cache}"
            watcher.table(Table(f"problems-{self.cache}", title, rows))
            first = f"shard {problems[0].shard}: " if problems[0].shard is not None else ""
            raise DamagedError(
                f"cache {self.cache} ({cache.id[:12]}): {counted(len(problems), 'problem')} in "
                f"{counted(cache.shard_count, 'shard')}, the first: {first}{problems[0].what}; "
                f"{self._advice(cache)}"
            )
        return Verified(cache.id, cache.shard_count, cache.feature_bytes)

    def _problems(
        self, cache: Cache, extractor: FeatureExtractor | None, watcher: Watcher
    ) -> list[Problem]:
        from vfs_ops.builds.verification import verify

        with optional_client(self.cluster) as client:
            return verify(
                cache,
                extractor=extractor,
                sample=self.sample,
                images=self.images,
                client=client,
                progress=watcher.progress,
            )

    def _open(self) -> tuple[Cache, FeatureExtractor | None]:
        cache = catalog.open_cache(Workspace.at(self.workspace), self.cache)
        if not self.sample:
            return cache, None
        with doing(f"loading {cache.spec.extractor.model}"):
            from vfs_ops.caches.recipes import load_extractor

            return cache, load_extractor(cache, checkpoint=self.checkpoint, device=self.device)

    def _advice(self, cache: Cache) -> str:
        from vfs_ops.builds.checks import SAMPLE_IMAGES

        try:
            entry = catalog.find(cache.workspace, self.cache, "cache")
        except NotFoundError:  # an id that was never registered
            return "build it again in Python, with check='digests'"
        advice = repair_advice(cache, entry, self.checkpoint)
        if self.sample <= SAMPLE_IMAGES or "--check" not in advice:
            return advice
        return f"{advice} (which computes {SAMPLE_IMAGES} images anew, not {self.sample})"
