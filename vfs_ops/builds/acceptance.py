"""What must hold of the shards of a cache before it is committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from vfs_ops.builds.checks import (
    SAMPLE_IMAGES,
    Problem,
    check_inputs,
    check_sample,
    check_shards,
    sample_batches,
)
from vfs_ops.builds.execution import GROUP, Site, call_each, in_groups
from vfs_ops.builds.stretches import PendingCache
from vfs_ops.caches.completeness import read_receipt, receipts_or_errors
from vfs_ops.caches.receipts import Receipt
from vfs_ops.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from vfs_ops.models.extract import FeatureExtractor


def find_problems(
    site: Site,
    extractor: FeatureExtractor,
    group: Sequence[PendingCache],
    progress: ProgressCallback,
) -> list[tuple[PendingCache, Problem]]:
    """Read all shards, and compute a sample of images again.

    Parameters
    ----------
    site
        Reads the shards on its workers; the sample is computed by this process.
    extractor
        The model.
    group
        Caches of the same images and batch size, all of whose shards have a receipt.
    progress
        Told how many shards are read.

    Returns
    -------
    list of (cache, problem)
        Each of one shard; empty if all may be committed.
    """
    total, done = sum(cache.plan.shard_count for cache in group), 0

    def on_shards(count: int) -> None:
        nonlocal done
        done = min(done + count, total)
        progress(Progress("verify", done, total, "shards"))

    problems = [
        (cache, problem) for cache in group for problem in _wrong_shards(site, cache, on_shards)
    ]
    if problems:
        return problems
    batches = sample_batches(group[0].plan, SAMPLE_IMAGES)
    sampled = {
        cache.layer: (
            cache.plan,
            {
                shard: read_receipt(site.workspace, cache.plan, shard)
                for shard in {rows.start // cache.plan.images_per_shard for rows in batches}
            },
        )
        for cache in group
    }
    reader = site.dataset.reader(site.images)
    of_layer = {cache.layer: cache for cache in group}
    return [
        (of_layer[layer], problem)
        for layer, problem in check_sample(site.workspace, sampled, extractor, reader, batches)
    ]


def _wrong_shards(
    site: Site, cache: PendingCache, on_shards: Callable[[int], None]
) -> list[Problem]:
    """Compare receipts with the images, and the shards with their receipts."""
    problems: list[Problem] = []
    digests = site.dataset.digests()

    def sound() -> Iterator[Receipt]:
        shards = range(cache.plan.shard_count)
        for shard, found in receipts_or_errors(site.workspace, cache.plan, shards):
            if not isinstance(found, Receipt):
                problems.append(Problem(shard, str(found)))
                continue
            wrong = list(check_inputs(cache.spec, [found], digests))
            problems.extend(wrong)
            if not wrong:
                yield found

    def take(found: list[Problem]) -> None:
        problems.extend(found)
        on_shards(1 if site.client is None else GROUP)

    call_each(
        site.client,
        check_shards,
        ((site.workspace, cache.plan, group) for group in in_groups(sound(), site.client)),
        name="verify",
        on_result=take,
        on_notice=site.on_notice,
    )
    return problems
