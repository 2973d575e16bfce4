"""Build caches, dataset × layers of models: plan, copy or compute, verify, commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from vfs_ops.builds.acceptance import find_problems
from vfs_ops.builds.allocation import freed_memory_kept
from vfs_ops.builds.claims import held
from vfs_ops.builds.execution import Site
from vfs_ops.builds.planning import (
    PlannedCache,
    as_extractors,
    check_capacity,
    plan_build,
)
from vfs_ops.builds.repair import Check, mend_finished, withdraw
from vfs_ops.builds.reports import NoticeCallback, ShardCallback, ShardReport, no_notices, no_shards
from vfs_ops.builds.retries import persist
from vfs_ops.builds.reuse import copy_shards
from vfs_ops.builds.stretches import PendingCache, Stretch, alike, stretches
from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.caches.commits import commit
from vfs_ops.caches.completeness import finished_shards
from vfs_ops.caches.layout import begin, read_probe
from vfs_ops.datasets.dataset import Dataset
from vfs_ops.errors import DamagedError, InputError
from vfs_ops.identity.spec import StoredDtype
from vfs_ops.models.probe import check_probe, probe
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

    from vfs_ops.models.extract import FeatureExtractor

__all__ = ["PlannedCache", "build", "check_capacity", "plan_build"]

CacheCallback = Callable[[Cache], None]

ROUNDS: Final = 3
"""Times that shards found damaged before the commit are computed again."""


def no_caches(cache: Cache) -> None:
    """Tell nobody."""


def build(
    dataset: Dataset,
    extractors: FeatureExtractor | Sequence[FeatureExtractor],
    *,
    workspace: Workspace | None = None,
    dtype: StoredDtype = "float16",
    images: Any = None,
    threads: int | None = None,
    client: Client | None = None,
    check: Check | None = "sizes",
    quota: int | None = None,
    progress: ProgressCallback = silent,
    on_shard: ShardCallback = no_shards,
    on_notice: NoticeCallback = no_notices,
    on_commit: CacheCallback = no_caches,
) -> list[Cache]:
    """Build the caches of a dataset under every layer of some extractors, one pass a model.

    What exists is returned at once. A build that was interrupted goes on where it stopped: shards
    with a receipt are not computed again. Shards that an earlier cache of the same extractor holds,
    as those of a dataset that has grown since, are copied. Builders side by side share the work.

    Before a cache is committed, every shard is read and compared with its receipt, and a sample of
    images is computed again: by the same device and version of torch on the same host it must give
    the same bits, else a cosine of 0.999 in every cell. What fails is computed again.

    Parameters
    ----------
    dataset, extractors, workspace, dtype, images
        See `plan_build`. With ``workspace=Workspace.in_memory()`` nothing is kept.
    threads
        Decoding threads a process; by default as many as it computes with.
    client
        Of a Dask cluster whose workers compute, as `clusters.open_cluster` opens it; this process
        computes if None.
    check
        How finished caches are looked at first: ``"sizes"`` finds objects that are missing or cut
        off, by listings; ``"digests"`` reads all, and computes a sample again, as is done before a
        commit. Damaged shards are computed again. None if `repair.mend_finished` has just looked.
    quota
        Bytes that may be written.
    progress
        Told how many images are done.
    on_shard
        Told of each shard that is finished.
    on_notice
        Told in a sentence who else builds, what is copied, repaired or tried again.
    on_commit
        Given each cache as soon as it is whole: those first that are so before anything is
        computed, the others before the next model is begun. Called again if it could not reach the
        storage. Until its end, a build that computes claims all of its caches, so that nobody
        removes one that no entry names yet.

    Returns
    -------
    list of Cache
        One per extractor and layer, in their order.

    Raises
    ------
    ImageChangedError
        If an image is not the one that was ingested.
    ExtractorMismatchError
        If the model computes other features than when the build began.
    FeatureRangeError
        If features do not fit `dtype`.
    TooLargeError, StorageFullError
        If it does not fit into the memory or on the disk that is there.
    ClusterError
        If the scheduler or the workers are gone; run again to go on.
    StorageError
        If the storage fails for longer than is waited for; run again to go on.

    Examples
    --------
    >>> from vfs_ops import FeatureExtractor, load_model            # doctest: +SKIP
    >>> model = load_model("efficientnet-lite0")                    # doctest: +SKIP
    >>> extractor = FeatureExtractor(model, ["blocks.6"])           # doctest: +SKIP
    >>> [cache] = build(dataset, extractor)                         # doctest: +SKIP
    """
    workspace = workspace or dataset.workspace
    if client is not None and "memory" in (workspace.protocol, dataset.workspace.protocol):
        raise InputError("workers cannot see a workspace in memory; leave out the cluster")
    models = as_extractors(extractors)

    def plan() -> list[PlannedCache]:
        if check is not None:
            mend_finished(
                dataset,
                models,
                workspace=workspace,
                dtype=dtype,
                images=images,
                client=client,
                check=check,
                on_notice=on_notice,
            )
        return plan_build(
            dataset, models, workspace=workspace, dtype=dtype, images=images, client=client
        )

    planned = persist(plan, on_notice=on_notice)
    unfinished = {cache.spec.id for cache in planned if not cache.complete}
    if unfinished:
        check_capacity(planned, workspace, client=client, quota=quota)
    caches: dict[str, Cache] = {}

    def committed(cache_id: str) -> None:
        caches[cache_id] = open_cache(workspace, cache_id, dataset)
        on_commit(caches[cache_id])

    ids = [cache.spec.id for cache in planned]
    with held(workspace, ids) if unfinished else nullcontext() as claim:
        for cache in planned:
            if cache.complete:
                persist(partial(committed, cache.spec.id), on_notice=on_notice)
        if claim is not None:
            others = {one.builder: one for one in claim.others if one.cache in unfinished}
            for other in others.values():
                on_notice(
                    f"{other}, builds the same, or was killed minutes ago; the work is shared"
                )
            rank = len(others)
            site = Site(workspace, dataset, images, client, threads, rank, on_shard, on_notice)
            counter = _Counter(progress)
            upcoming = iter(planned)
            for extractor in models:
                layers = [next(upcoming) for _ in extractor.specs]
                _build_pass(site, extractor, layers, counter, committed)
    return [caches[cache.spec.id] for cache in planned]


@dataclass
class _Counter:
    """Images done and to do, over all passes that have begun."""

    progress: ProgressCallback
    done: int = 0
    total: int = 0

    def begin(self, images: int, missing: int) -> None:
        self.total += images
        self.done += images - missing
        self.add(0)

    def add(self, images: int) -> None:
        # what is computed again after a failure does not count twice
        self.done = min(self.done + images, self.total)
        self.progress(Progress("build", self.done, self.total, "images"))


@freed_memory_kept()
def _build_pass(
    site: Site,
    extractor: FeatureExtractor,
    layers: Sequence[PlannedCache],
    counter: _Counter,
    committed: Callable[[str], None],
) -> None:
    """Build the caches of one model: copy, compute, verify, commit, tell."""
    pending = site.persist(lambda: _begin(site.workspace, layers, extractor))
    for cache in pending:
        _copy(site, cache, layers[cache.layer])
    for group in alike(pending):
        computing = extractor.with_threads(group[0].plan.threads)
        missing = partial(_missing, site.workspace, group)
        check = partial(find_problems, site, computing, group, counter.progress)
        work = site.persist(missing)
        count = group[0].plan.images
        counter.begin(count, sum(len(rows) for one in work for rows in one.batches(group)))
        for _ in range(ROUNDS):
            if work:
                site.compute(computing, group, work, counter.add)
            problems = site.persist(check)
            if not problems:
                break
            for cache, problem in problems:
                site.on_notice(
                    f"cache {cache.plan.cache[:12]}: shard {problem.shard} is computed again: "
                    f"{problem.what}"
                )
                if problem.shard is not None:
                    shards = [problem.shard]
                    site.persist(partial(withdraw, site.workspace, cache.plan, shards))
            work = site.persist(missing)
        else:
            cache, problem = problems[0]
            raise DamagedError(
                f"shard {problem.shard} of cache {cache.plan.cache[:12]} was computed "
                f"{ROUNDS} times and is still wrong: {problem.what}; check the storage, and that "
                "the model computes the same each time"
            )
        for cache in group:
            site.persist(partial(commit, site.workspace, cache.plan))
            site.persist(partial(committed, cache.plan.cache))


def _begin(
    workspace: Workspace, layers: Sequence[PlannedCache], extractor: FeatureExtractor
) -> list[PendingCache]:
    if all(cache.complete for cache in layers):
        return []
    counts = {cache.plan.threads for cache in layers if not cache.complete}
    probes = {threads: probe(extractor.with_threads(threads)) for threads in counts}
    pending = []
    for layer, cache in enumerate(layers):
        if cache.complete:
            continue
        probed = probes[cache.plan.threads][layer]
        plan = begin(workspace, cache.spec, cache.plan, probed)
        stored = read_probe(workspace, plan)
        what = f"the unfinished cache {plan.cache[:12]} and this model"
        check_probe(stored, probed, what, cache.spec.precision)
        pending.append(PendingCache(layer, cache.spec, plan))
    return pending


def _copy(site: Site, cache: PendingCache, planned: PlannedCache) -> None:
    if cache.plan != planned.plan:
        return  # another builder's plan came first, and may cut shards in another way
    left, done = deque(planned.copies.values()), 0

    def copy() -> None:
        nonlocal done
        for result in copy_shards(site.workspace, cache.spec, cache.plan, tuple(left)):
            left.popleft()
            if isinstance(result, ShardReport):
                done += 1
                site.on_shard(result)
            else:
                site.on_notice(result)

    site.persist(copy, achieved=lambda: done)
    if done:
        site.on_notice(
            f"cache {cache.plan.cache[:12]}: {done} of {cache.plan.shard_count} shards were "
            "copied from an earlier cache"
        )


def _missing(workspace: Workspace, group: Sequence[PendingCache]) -> list[Stretch]:
    finished = [frozenset(finished_shards(workspace, cache.plan)) for cache in group]
    return stretches(group, finished)
