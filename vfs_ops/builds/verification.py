"""Read everything of a cache again and name what is not as it was written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from vfs_ops.builds.checks import (
    SAMPLE_IMAGES,
    Problem,
    check_inputs,
    check_sample,
    check_shards,
    sample_batches,
)
from vfs_ops.builds.execution import call_each, in_groups
from vfs_ops.builds.reports import no_notices
from vfs_ops.caches.cache import Cache
from vfs_ops.caches.commits import not_as_committed
from vfs_ops.caches.completeness import read_receipt
from vfs_ops.caches.plans import Plan
from vfs_ops.caches.receipts import Receipt
from vfs_ops.datasets.dataset import Dataset
from vfs_ops.datasets.manifests import dataset_document
from vfs_ops.errors import (
    DamagedError,
    ExtractorMismatchError,
    ForbiddenError,
    NewerFormatError,
    NotFoundError,
)
from vfs_ops.models.probe import check_probe, probe
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

    from vfs_ops.models.extract import FeatureExtractor


def verify(
    cache: Cache,
    *,
    extractor: FeatureExtractor | None = None,
    sample: int = SAMPLE_IMAGES,
    images: Any = None,
    client: Client | None = None,
    progress: ProgressCallback = silent,
) -> list[Problem]:
    """Check every object of a cache against its receipts, and the receipts against the images.

    Opening the cache has checked its documents, its Zarr metadata and the table of receipts. This
    reads every shard: its arrays must have the digests of the receipt, decode, agree with each
    other, and stem from the images of the dataset, whose manifest must be what its id says. With
    an extractor, a sample of images is computed again and compared: the same device and version
    of torch must give the same bits on the host that built the cache; any other must come within
    a cosine of 0.999 in every cell.

    Parameters
    ----------
    cache
        An opened cache.
    extractor
        The cache's model, among whose layers is the cache's; see `recipes.load_extractor`.
    sample
        Images to compute again, at least; whole batches are.
    images
        Where the images are, for the sample; see `Dataset.reader`.
    client
        Of a cluster whose workers read the shards; this process does if None.
    progress
        Told how many shards are checked.

    Returns
    -------
    list of Problem
        Empty if the cache is whole; else in order of shards, those of the whole cache first.

    Raises
    ------
    ExtractorMismatchError
        If the extractor is not the cache's.
    AccessError, UnavailableError, StorageError
        If the storage fails, which says nothing about the cache.
    """
    layer = None if extractor is None else _layer_of(cache, extractor)
    problems = [Problem(None, what) for what in _check_documents(cache)]
    problems.extend(Problem(None, what) for what in _check_dataset(cache.dataset))
    problems.extend(check_inputs(cache.spec, cache.receipts, cache.dataset.digests()))
    done = 0

    def found(group: tuple[int, list[Problem]]) -> None:
        nonlocal done
        done += group[0]
        problems.extend(group[1])
        progress(Progress("verify", done, cache.shard_count, "shards"))

    tasks = ((cache.workspace, cache.plan, group) for group in in_groups(cache.receipts, client))
    call_each(client, _check_group, tasks, name="verify", on_result=found, on_notice=no_notices)
    if extractor is not None and layer is not None and not problems:
        reader, batches = cache.dataset.reader(images), sample_batches(cache.plan, sample)
        caches = {layer: (cache.plan, cache.receipts)}
        computing = extractor.with_threads(cache.plan.threads)
        problems += [
            problem
            for _, problem in check_sample(cache.workspace, caches, computing, reader, batches)
        ]
    return sorted(problems, key=lambda problem: -1 if problem.shard is None else problem.shard)


def _layer_of(cache: Cache, extractor: FeatureExtractor) -> int:
    """Return which of an extractor's layers a cache is of."""
    precisions = (extractor.precision, "unknown")  # of an imported cache
    if cache.spec.extractor not in extractor.specs or cache.spec.precision not in precisions:
        raise ExtractorMismatchError(
            f"cache {cache.id[:12]} is of {cache.spec.extractor.model} "
            f"{cache.spec.extractor.layer} in {cache.spec.precision}, weights "
            f"{cache.spec.extractor.weights[:12]}; {extractor!r} is another; load its own model"
        )
    layer = extractor.specs.index(cache.spec.extractor)
    what = f"cache {cache.id[:12]} and this model"
    check_probe(cache.probe, probe(extractor)[layer], what, cache.spec.precision)
    return layer


def _check_group(batch: tuple[Workspace, Plan, list[Receipt]]) -> tuple[int, list[Problem]]:
    """Check some shards: the receipts themselves, and what they speak of."""
    workspace, plan, receipts = batch
    changed = []
    for receipt in receipts:
        if not _is_stored(workspace, plan, receipt):
            changed.append(Problem(receipt.shard, "its receipt is missing or was changed"))
    return len(receipts), changed + check_shards(batch)


def _is_stored(workspace: Workspace, plan: Plan, receipt: Receipt) -> bool:
    try:
        return read_receipt(workspace, plan, receipt.shard) == receipt
    except (NotFoundError, ForbiddenError, DamagedError, NewerFormatError):
        return False


def _check_documents(cache: Cache) -> Iterator[str]:
    if cache.commit is None:
        yield "the cache is not finished"
        return
    wrong = not_as_committed(cache.workspace, cache.id, cache.plan, cache.commit)
    for name, what in wrong.items():
        yield f"{name} {what}"


def _check_dataset(dataset: Dataset) -> Iterable[str]:
    for key, value in dataset_document(dataset.table()).items():
        if key != "format" and dataset.document[key] != value:
            yield f"the manifest of dataset {dataset.id[:12]} has other {key} than its id says"
