"""Build caches: dataset × layers of a model. Plans first, computes what is missing, commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numcodecs import Zstd

from vfs_ops.caches import Cache, open_cache
from vfs_ops.commits import commit, read_commit
from vfs_ops.completeness import finished_shards
from vfs_ops.datasets import Dataset
from vfs_ops.errors import ImageError, SourceError
from vfs_ops.layout import begin, read_plan, read_probe
from vfs_ops.pipeline import PendingCache, available_threads, compute_shards
from vfs_ops.plans import Codec, Plan, choose_sizes
from vfs_ops.probe import check_probe, probe
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.spec import NULL_DIGEST, CacheSpec, StoredDtype
from vfs_ops.storage import Workspace
from vfs_ops.values import to_stored

if TYPE_CHECKING:
    from vfs_ops.datasets import ImageReader
    from vfs_ops.extract import FeatureExtractor

SAMPLE_IMAGES: Final = 16
"""Images looked at to choose the codec and to try the stored dtype."""
WORTHWHILE_RATIO: Final = 1.5
"""Reading uncompressed features is fastest locally; below this, compression costs more."""


@dataclass(frozen=True)
class PlannedCache:
    """One cache of a build, before anything is computed."""

    spec: CacheSpec
    plan: Plan
    finished_shards: int
    """Shards that are there already."""
    complete: bool
    """True if there is nothing to do."""

    @property
    def bytes_to_write(self) -> int:
        """Upper bound of what is still to be written, in bytes: features before compression."""
        if self.complete:
            return 0
        missing = self.plan.shard_count - self.finished_shards
        images = min(missing * self.plan.images_per_shard, self.plan.images)
        return images * self.plan.image_bytes


def plan_build(
    dataset: Dataset,
    extractor: FeatureExtractor,
    *,
    workspace: Workspace | None = None,
    dtype: StoredDtype = "float16",
    images: Any = None,
) -> list[PlannedCache]:
    """Plan the caches of a dataset under every layer of an extractor; writes nothing.

    Parameters
    ----------
    dataset
        The images.
    extractor
        Model and layers.
    workspace
        Where the caches shall lie; the dataset's by default.
    dtype
        How features are stored. ``float16`` halves the size; it is refused where it costs more
        than `vfs_ops.values.MAX_COSINE_COST`.
    images
        Where the images are, if not where they were ingested from; see `Dataset.reader`.

    Returns
    -------
    list of PlannedCache
        In the order of the extractor's layers.

    Raises
    ------
    FeatureRangeError
        If a sample of the features does not fit `dtype`.
    SourceError
        If no image can be read.
    """
    workspace = workspace or dataset.workspace
    specs = _cache_specs(dataset, extractor, dtype)
    stored = [read_plan(workspace, spec.id) for spec in specs]
    sampled: list[tuple[Codec, float]] = []
    if None in stored:
        sampled = _sample(dataset, dataset.reader(images), extractor, dtype)
    planned = []
    for number, (spec, info, plan) in enumerate(zip(specs, extractor.infos, stored, strict=True)):
        if plan is None:
            image_bytes = info.grid[0] * info.grid[1] * info.channels * np.dtype(dtype).itemsize
            per_shard, per_chunk, batch_size = choose_sizes(image_bytes)
            plan = Plan(
                cache=spec.id,
                dataset=dataset.id,
                images=dataset.count,
                grid=info.grid,
                channels=info.channels,
                dtype=dtype,
                images_per_shard=per_shard,
                images_per_chunk=per_chunk,
                batch_size=batch_size,
                codec=sampled[number][0],
                sample_ratio=sampled[number][1],
                weights=extractor.model.weights,
                versions=_versions(),
            )
        complete = read_commit(workspace, spec.id) is not None
        done = plan.shard_count if complete else len(finished_shards(workspace, plan))
        planned.append(PlannedCache(spec, plan, done, complete))
    return planned


def build(
    dataset: Dataset,
    extractor: FeatureExtractor,
    *,
    workspace: Workspace | None = None,
    dtype: StoredDtype = "float16",
    images: Any = None,
    threads: int | None = None,
    progress: ProgressCallback = silent,
) -> list[Cache]:
    """Build the caches of a dataset under every layer of an extractor, in one pass.

    What exists is returned at once. A build that was interrupted goes on where it stopped: shards
    with a receipt are not computed again.

    Parameters
    ----------
    dataset, extractor, workspace, dtype, images
        See `plan_build`. With ``workspace=Workspace.in_memory()`` nothing is kept.
    threads
        Decoding threads; as many as processors by default.
    progress
        Told how many images are done.

    Returns
    -------
    list of Cache
        In the order of the extractor's layers.

    Raises
    ------
    ImageChangedError
        If an image is not the one that was ingested.
    ExtractorMismatchError
        If the model computes other features than when the build began.
    FeatureRangeError
        If features do not fit `dtype`.
    StorageError
        If the storage fails; run again to go on.

    Examples
    --------
    >>> from vfs_ops import FeatureExtractor, load_model            # doctest: +SKIP
    >>> model = load_model("efficientnet-lite0")                    # doctest: +SKIP
    >>> extractor = FeatureExtractor(model, ["blocks.6"])           # doctest: +SKIP
    >>> [cache] = build(dataset, extractor)                         # doctest: +SKIP
    """
    workspace = workspace or dataset.workspace
    planned = plan_build(dataset, extractor, workspace=workspace, dtype=dtype, images=images)
    if not all(cache.complete for cache in planned):
        pending = _begin(workspace, planned, extractor)
        reader = dataset.reader(images)
        _compute(workspace, pending, extractor, reader, dataset, threads, progress)
        for cache in pending:
            commit(workspace, cache.plan)
    return [open_cache(workspace, cache.spec.id, dataset) for cache in planned]


def _cache_specs(
    dataset: Dataset, extractor: FeatureExtractor, dtype: StoredDtype
) -> list[CacheSpec]:
    return [
        CacheSpec(
            images=dataset.images_id, extractor=spec, precision=extractor.precision, dtype=dtype
        )
        for spec in extractor.specs
    ]


def _begin(
    workspace: Workspace, planned: list[PlannedCache], extractor: FeatureExtractor
) -> list[PendingCache]:
    probes = probe(extractor)
    pending = []
    for layer, cache in enumerate(planned):
        if cache.complete:
            continue
        plan = begin(workspace, cache.spec, cache.plan, probes[layer])
        stored = read_probe(workspace, plan)
        what = f"the unfinished cache {plan.cache[:12]} and this model"
        check_probe(stored, probes[layer], what, cache.spec.precision)
        done = frozenset(finished_shards(workspace, plan))
        pending.append(PendingCache(layer, cache.spec, plan, done))
    return pending


def _compute(
    workspace: Workspace,
    pending: list[PendingCache],
    extractor: FeatureExtractor,
    reader: ImageReader,
    dataset: Dataset,
    threads: int | None,
    progress: ProgressCallback,
) -> None:
    digests = dataset.digests()
    for size in sorted({cache.plan.batch_size for cache in pending}):
        group = [cache for cache in pending if cache.plan.batch_size == size]
        missing = sum(
            min(size, dataset.count - start)
            for start in range(0, dataset.count, size)
            if any(cache.wants(start) for cache in group)
        )
        done = dataset.count - missing

        def on_images(count: int) -> None:
            nonlocal done
            done += count
            progress(Progress("build", done, dataset.count, "images"))

        on_images(0)
        if missing:
            compute_shards(
                workspace,
                group,
                extractor,
                reader,
                digests,
                threads=threads or available_threads(),
                on_images=on_images,
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


def _versions() -> Mapping[str, str]:
    names = ("visual-feature-search", "torch", "torchvision", "timm", "pillow", "numpy")
    return {name: version(name) for name in names}
