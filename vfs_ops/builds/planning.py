"""The plan of a build: what will be computed, copied and written, before anything is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numcodecs import Zstd

from vfs_ops.builds.capacity import check_memory, check_space, worker_memory
from vfs_ops.builds.distribution import worker_threads
from vfs_ops.builds.reuse import Copyable, copyable_shards, earlier_caches
from vfs_ops.caches.commits import read_commit
from vfs_ops.caches.completeness import finished_shards
from vfs_ops.caches.layout import read_plan
from vfs_ops.caches.plans import Codec, Plan, choose_sizes
from vfs_ops.caches.values import to_stored
from vfs_ops.datasets.dataset import Dataset
from vfs_ops.errors import ImageError, SourceError
from vfs_ops.identity.spec import NULL_DIGEST, CacheSpec, StoredDtype
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

    from vfs_ops.datasets.dataset import ImageReader
    from vfs_ops.models.extract import FeatureExtractor

SAMPLE_IMAGES: Final = 16
"""Images looked at to choose the codec and to try the stored dtype."""
WORTHWHILE_RATIO: Final = 1.5
"""Reading uncompressed features is fastest locally; below this, compression costs more."""


@dataclass(frozen=True)
class PlannedCache:
    """One cache of a build, before anything is computed."""

    spec: CacheSpec
    plan: Plan
    finished: frozenset[int]
    """Shards that are there already."""
    copies: Mapping[int, Copyable]
    """Missing shards that can be copied from an earlier cache."""
    complete: bool
    """True if there is nothing to do."""
    worker_memory: int
    """Projected peak memory of a process that builds, in bytes, for all layers of the extractor
    together; 0 if there is nothing to do. See `vfs_ops.builds.capacity.worker_memory`."""

    @property
    def finished_shards(self) -> int:
        """Number of shards that are there already."""
        return self.plan.shard_count if self.complete else len(self.finished)

    @property
    def copied_shards(self) -> int:
        """Number of shards that can be copied."""
        return len(self.copies)

    @property
    def bytes_to_write(self) -> int:
        """Upper bound of what is still to be written, in bytes, before compression."""
        if self.complete:
            return 0
        plan, missing = self.plan, self.plan.shard_count - self.finished_shards
        images = min(missing * plan.images_per_shard, plan.images)
        beside = missing * plan.images_per_shard * (4 * plan.grid[0] * plan.grid[1] + 1)
        return images * plan.image_bytes + beside


def plan_build(
    dataset: Dataset,
    extractors: FeatureExtractor | Sequence[FeatureExtractor],
    *,
    workspace: Workspace | None = None,
    dtype: StoredDtype = "float16",
    images: Any = None,
    client: Client | None = None,
) -> list[PlannedCache]:
    """Plan the caches of a dataset under every layer of some extractors; writes nothing.

    Parameters
    ----------
    dataset
        The images.
    extractors
        Models and layers.
    workspace
        Where the caches shall lie; the dataset's by default.
    dtype
        How features are stored. ``float16`` halves the size; it is refused where it costs more
        than `vfs_ops.caches.values.MAX_COSINE_COST`.
    images
        Where the images are, if not where they were ingested from; see `Dataset.reader`.
    client
        Of the cluster whose workers will compute; this process does if None. A new cache is
        planned for the threads that they compute with.

    Returns
    -------
    list of PlannedCache
        One per extractor and layer, in their order.

    Raises
    ------
    FeatureRangeError
        If a sample of the features does not fit `dtype`.
    SourceError
        If no image can be read.
    """
    workspace = workspace or dataset.workspace
    planned: list[PlannedCache] = []
    for extractor in as_extractors(extractors):
        planned += _plan_pass(dataset, extractor, workspace, dtype, images, client)
    return planned


def check_capacity(
    planned: Sequence[PlannedCache],
    workspace: Workspace,
    *,
    client: Client | None = None,
    processes: int = 1,
    quota: int | None = None,
) -> None:
    """Refuse a build that cannot fit; `build` does so itself before it writes anything.

    Parameters
    ----------
    planned
        As `plan_build` gives it.
    workspace
        Where the caches shall lie; the free disk of a local one counts.
    client
        Of the cluster whose workers compute; this process does if None.
    processes
        Of this machine that would compute side by side, where there is no client.
    quota
        Bytes that the build may write.

    Raises
    ------
    TooLargeError
        If a process needs more memory than there is; names both numbers.
    StorageFullError
        If more is to be written than fits; names both numbers.
    """
    check_space(sum(cache.bytes_to_write for cache in planned), workspace, quota)
    check_memory(max((cache.worker_memory for cache in planned), default=0), client, processes)


def as_extractors(
    extractors: FeatureExtractor | Sequence[FeatureExtractor],
) -> list[FeatureExtractor]:
    """Return one extractor, or several, as a list."""
    return list(extractors) if isinstance(extractors, Sequence) else [extractors]


def cache_specs(
    dataset: Dataset, extractor: FeatureExtractor, dtype: StoredDtype
) -> list[CacheSpec]:
    """Return what the caches of a dataset under the layers of an extractor are."""
    return [
        CacheSpec(
            images=dataset.images_id, extractor=spec, precision=extractor.precision, dtype=dtype
        )
        for spec in extractor.specs
    ]


def _plan_pass(
    dataset: Dataset,
    extractor: FeatureExtractor,
    workspace: Workspace,
    dtype: StoredDtype,
    images: Any,
    client: Client | None,
) -> list[PlannedCache]:
    """Plan the caches of one extractor."""
    specs = cache_specs(dataset, extractor, dtype)
    stored = [read_plan(workspace, spec.id) for spec in specs]
    complete = [read_commit(workspace, spec.id) is not None for spec in specs]
    if all(complete):
        return [
            PlannedCache(spec, plan, frozenset(), {}, True, 0)
            for spec, plan in zip(specs, stored, strict=True)
            if plan is not None
        ]
    earlier = earlier_caches(workspace, specs)
    fresh = [plan is None and not plans for plan, plans in zip(stored, earlier, strict=True)]
    sampled: list[tuple[Codec, float]] = []
    threads = extractor.threads
    if any(fresh):
        if client is not None and threads is not None:
            threads = worker_threads(client)
        computing = extractor.with_threads(threads)
        sampled = _sample(dataset, dataset.reader(images), computing, dtype)
    plans = []
    for number, (spec, plan) in enumerate(zip(specs, stored, strict=True)):
        if plan is None:
            like = earlier[number][0] if earlier[number] else None
            choice = sampled[number] if like is None else (like.codec, like.sample_ratio)
            plan = _new_plan(dataset, extractor, number, spec, dtype, choice, threads, like)
        plans.append(plan)
    digests = dataset.digests()
    memory = worker_memory(extractor, plans)
    planned = []
    for spec, plan, done, others in zip(specs, plans, complete, earlier, strict=True):
        finished = frozenset() if done else frozenset(finished_shards(workspace, plan))
        missing = () if done else sorted(set(range(plan.shard_count)) - finished)
        copies = copyable_shards(workspace, spec, plan, digests, others, missing)
        planned.append(PlannedCache(spec, plan, finished, copies, done, 0 if done else memory))
    return planned


def _new_plan(
    dataset: Dataset,
    extractor: FeatureExtractor,
    number: int,
    spec: CacheSpec,
    dtype: StoredDtype,
    codec: tuple[Codec, float],
    threads: int | None,
    like: Plan | None,
) -> Plan:
    """Decide how a cache is cut: as an earlier one of the same extractor, where there is one."""
    info = extractor.infos[number]
    if like is None:
        image_bytes = info.grid[0] * info.grid[1] * info.channels * np.dtype(dtype).itemsize
        sizes = choose_sizes(image_bytes)
    else:
        sizes = like.images_per_shard, like.images_per_chunk, like.batch_size
    return Plan(
        cache=spec.id,
        dataset=dataset.id,
        images=dataset.count,
        grid=info.grid,
        channels=info.channels,
        dtype=dtype,
        images_per_shard=sizes[0],
        images_per_chunk=sizes[1],
        batch_size=sizes[2],
        threads=threads if like is None else like.threads,
        codec=codec[0],
        sample_ratio=codec[1],
        weights=extractor.model.weights,
        versions=library_versions(),
    )


def _sample(
    dataset: Dataset, reader: ImageReader, extractor: FeatureExtractor, dtype: StoredDtype
) -> list[tuple[Codec, float]]:
    """Choose each layer's codec by features of a few images spread over the dataset."""
    readable = np.flatnonzero(
        (dataset.digests() != np.frombuffer(NULL_DIGEST, np.uint8)).any(axis=1)
    )
    if not len(readable):
        raise SourceError(
            f"none of the {dataset.count} images of dataset {dataset.id[:12]} can be read; "
            "`vfs show` lists the reasons"
        )
    places = np.linspace(0, len(readable) - 1, min(SAMPLE_IMAGES, len(readable))).astype(int)
    pixels = []
    for row in readable[places].tolist():
        try:
            pixels.append(extractor.prepare(reader.read(row)))
        except ImageError:
            continue  # its reason goes into the receipt of its shard
    if not pixels:
        raise SourceError(f"none of {len(places)} images tried can be read any more; ingest again")
    choices: list[tuple[Codec, float]] = []
    for maps in extractor.features(np.stack(pixels)):
        raw = to_stored(maps, dtype)[0].tobytes()
        ratio = round(len(raw) / len(Zstd(level=1).encode(raw)), 3)
        choices.append(("zstd" if ratio >= WORTHWHILE_RATIO else "none", ratio))
    return choices


def library_versions() -> Mapping[str, str]:
    """Return the versions of the libraries that features depend on, for a plan."""
    names = ("visual-feature-search", "torch", "torchvision", "timm", "pillow", "numpy")
    return {name: version(name) for name in names}
