"""Where the work of a build is done: by threads of this process, or by the workers of a cluster."""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from vfs_ops.builds.distribution import plugged, run_on_workers
from vfs_ops.builds.pipeline import available_threads, compute_shards, threads_named
from vfs_ops.builds.reports import NoticeCallback, ShardCallback
from vfs_ops.builds.retries import persist
from vfs_ops.builds.stretches import PendingCache, Stretch, still_missing
from vfs_ops.datasets.dataset import Dataset
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

    from vfs_ops.builds.workers import StretchReport
    from vfs_ops.models.extract import FeatureExtractor

GROUP: Final = 8
"""Shards that one task verifies."""
_READERS: Final = 4

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Site:
    """Where a build computes, and whom it tells."""

    workspace: Workspace
    dataset: Dataset
    images: Any
    client: Client | None
    """Of a cluster; this process computes if None."""
    threads: int | None
    """Decoding threads a process."""
    rank: int
    """How many other builders were at work first."""
    on_shard: ShardCallback
    on_notice: NoticeCallback

    def persist(self, work: Callable[[], _Result], achieved: Callable[[], int] = int) -> _Result:
        """Call something that goes on where it stopped, trying again what may pass."""
        return persist(work, achieved=achieved, on_notice=self.on_notice)

    def compute(
        self,
        extractor: FeatureExtractor,
        pending: Sequence[PendingCache],
        work: Sequence[Stretch],
        on_images: Callable[[int], None],
    ) -> None:
        """Compute what is missing, trying again what may pass.

        Parameters
        ----------
        pending
            Caches of the same images and batch size.
        work
            What is missing of them.
        on_images
            Told the number of images that went through the model.
        """
        ordered = in_turn(work, self.rank)
        if self.client is None:
            self._compute_here(extractor, pending, ordered, on_images)
        else:
            self._compute_there(self.client, extractor, pending, ordered, on_images)

    def _compute_here(
        self,
        extractor: FeatureExtractor,
        pending: Sequence[PendingCache],
        work: Sequence[Stretch],
        on_images: Callable[[int], None],
    ) -> None:
        reader, stored = self.dataset.reader(self.images), 0
        threads = self.threads or available_threads()

        def tell(report: Any) -> None:
            nonlocal stored
            stored += 1
            self.on_shard(report)

        def attempt() -> None:
            rest = (still_missing(self.workspace, pending, stretch) for stretch in work)
            compute_shards(
                self.workspace,
                pending,
                extractor,
                reader,
                rest,
                decoders=decoders,
                on_images=on_images,
                on_shard=tell,
            )

        with threads_named(threads, "decode") as decoders:
            self.persist(attempt, achieved=lambda: stored)

    def _compute_there(
        self,
        client: Client,
        extractor: FeatureExtractor,
        pending: Sequence[PendingCache],
        work: Sequence[Stretch],
        on_images: Callable[[int], None],
    ) -> None:
        from vfs_ops.builds.workers import Pass, PassPlugin, compute_stretch
        from vfs_ops.caches.recipes import recipe_of

        name = f"vfs-{secrets.token_hex(8)}"
        description = Pass(
            name=name,
            recipe=recipe_of(extractor),
            workspace=self.workspace,
            pending=tuple(pending),
            dataset_workspace=self.dataset.workspace,
            dataset=self.dataset.id,
            images=self.images,
            threads=self.threads,
        )

        def take(report: StretchReport) -> None:
            for notice in report.notices:
                self.on_notice(notice)
            for shard in report.shards:
                self.on_shard(shard)
            on_images(sum(map(len, report.stretch.batches(pending))))

        with plugged(client, PassPlugin(description), name):
            run_on_workers(
                client,
                partial(compute_stretch, name),
                work,
                name="build",
                on_result=take,
                on_notice=self.on_notice,
            )


def in_turn(work: Sequence[Stretch], rank: int) -> list[Stretch]:
    """Order the work of one of several builders, so that they seldom do the same at once.

    The first goes forwards and the second backwards, so they meet once; any other goes in a random
    order of its own. All skip what has been finished meanwhile.
    """
    ordered = list(work)
    if rank == 1:
        ordered.reverse()
    elif rank > 1:
        random.Random(rank).shuffle(ordered)  # noqa: S311
    return ordered


def call_each(
    client: Client | None,
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    name: str,
    on_result: Callable[[_Result], None],
    on_notice: NoticeCallback,
) -> None:
    """Call an importable function once an item, on a cluster or on threads of this process."""
    if client is not None:
        run_on_workers(client, function, items, name=name, on_result=on_result, on_notice=on_notice)
        return
    upcoming = iter(items)
    with threads_named(_READERS, name) as pool:
        waiting = deque(_submit(pool, function, islice(upcoming, 2 * _READERS)))
        while waiting:
            on_result(waiting.popleft().result())
            waiting.extend(_submit(pool, function, islice(upcoming, 1)))


def in_groups(items: Iterable[_Item], client: Client | None) -> Iterator[list[_Item]]:
    """Yield items as many at a time as one call shall take: some, where a call costs a message."""
    upcoming, size = iter(items), 1 if client is None else GROUP
    while group := list(islice(upcoming, size)):
        yield group


def _submit(
    pool: ThreadPoolExecutor, function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[Future[_Result]]:
    for item in items:
        yield pool.submit(function, item)
