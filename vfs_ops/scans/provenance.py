"""What finding an answer took, and whether the answer is whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vfs_ops.caches.cache import Cache
from vfs_ops.caches.shard_sources import ReadCost
from vfs_ops.scans.plan import ScanPlan
from vfs_ops.scans.tasks import ShardResult
from vfs_ops.store.traffic import counting

T = TypeVar("T")


@dataclass(frozen=True)
class Provenance:
    """Where an answer comes from, and what finding it took."""

    cache: str
    """Cache id."""
    dataset: str
    """Dataset id."""
    images_searched: int
    """Images that could be hits, and were compared."""
    shards_read: int
    """Shards of which something was compared, those in memory included."""
    bytes_read: int
    """Bytes that came from the store, labels and metadata included; none of a cache that is in
    memory, and of copies on local disk."""
    requests: int
    """Objects and ranges that were asked for of the store."""
    seconds: float
    """From the call to the answer."""
    seconds_reading: float
    """Time that threads waited for bytes, all threads together."""
    seconds_decoding: float
    """Time that they checked and decoded them. Of single images, this counts as reading."""
    seconds_scoring: float
    """Time that they scored. Of a cache in memory, time of the calls to the kernel, whose threads
    work side by side."""
    device: str
    """What scored: ``cpu``, or ``cuda``."""
    executor: str
    """What ran the tasks, as ``2 threads`` or ``cluster tcp://…``."""
    complete: bool
    """False if shards were missing, or the search was cancelled: there may be better hits."""
    missing_shards: int
    """Shards that should have been searched and were not there."""

    def plus(self, cost: ReadCost, seconds: float) -> Provenance:
        """Return this with what one more step read, and the seconds that it took."""
        return replace(
            self,
            bytes_read=self.bytes_read + cost.bytes,
            requests=self.requests + cost.requests,
            seconds=self.seconds + seconds,
            seconds_reading=self.seconds_reading + cost.reading,
        )

    def joined(self, other: Provenance) -> Provenance:
        """Return what two scans of one cache, one after the other, took together."""
        names = (
            *("images_searched", "shards_read", "bytes_read", "requests"),
            *("seconds", "seconds_reading", "seconds_decoding", "seconds_scoring"),
        )
        return replace(
            self,
            **{name: getattr(self, name) + getattr(other, name) for name in names},
            device=_both(self.device, other.device),
            executor=_both(self.executor, other.executor),
            complete=self.complete and other.complete,
            missing_shards=max(self.missing_shards, other.missing_shards),
        )

    def attributes(self) -> dict[str, str | int | float]:
        """Return all as attributes of an xarray, whose files hold no bool."""
        return {**asdict(self), "complete": int(self.complete)}


class Ledger:
    """Counts what an answer takes. Its clock starts when it is made: at the call.

    Parameters
    ----------
    cache
        What is searched.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache, self._began = cache, time.perf_counter()
        self._cost, self._scoring, self._images = ReadCost(), 0.0, 0
        self._devices = set[str]()
        self.done = 0
        """Shards finished, missing ones included."""
        self.missing = 0
        """Shards that were not there."""

    def reading(self, read: Callable[[], T]) -> T:
        """Return what `read` returns, and count what it asks of the store."""
        found, cost = counted(read)
        self._cost += cost
        return found

    def add(self, result: ShardResult) -> None:
        """Count one task of a scan."""
        self.done += 1
        self.missing += result.missing
        self._images += result.images
        self._cost += result.cost
        self._scoring += result.scoring
        self._devices.add(result.device)

    def scoring(self, score: Callable[[], T]) -> T:
        """Return what `score` returns, which this thread computes, and count its time."""
        started = time.perf_counter()
        found = score()
        self._scoring += time.perf_counter() - started
        return found

    def of_scan(self, executor: str, plan: ScanPlan) -> Provenance:
        """Return what a scan took so far, given what runs it, in words."""
        missing = len(plan.missing) + self.missing
        return self._provenance(
            images_searched=self._images,
            shards_read=self.done - self.missing,
            device=", ".join(sorted(self._devices)),
            executor=executor,
            complete=self.done == len(plan.tasks) and not missing,
            missing_shards=missing,
        )

    def of_images(self, rows: NDArray[np.integer]) -> Provenance:
        """Return what it took to read some images by themselves and to score them here."""
        searched = np.setdiff1d(rows, list(self._cache.invalid))
        return self._provenance(
            images_searched=len(searched),
            shards_read=len(np.unique(searched // self._cache.plan.images_per_shard)),
            device="cpu",
            executor="1 thread",
            complete=True,
            missing_shards=0,
        )

    def _provenance(self, **facts: Any) -> Provenance:
        return Provenance(
            cache=self._cache.id,
            dataset=self._cache.dataset.id,
            bytes_read=self._cost.bytes,
            requests=self._cost.requests,
            seconds=time.perf_counter() - self._began,
            seconds_reading=self._cost.reading,
            seconds_decoding=self._cost.decoding,
            seconds_scoring=self._scoring,
            **facts,
        )


def counted(read: Callable[[], T]) -> tuple[T, ReadCost]:
    """Return what `read` returns, and what it asked of the store and waited for, if anything."""
    started = time.perf_counter()
    with counting() as traffic:
        found = read()
    waited = time.perf_counter() - started if traffic.requests else 0.0
    return found, ReadCost(traffic.requests, traffic.bytes_read, waited)


def _both(one: str, other: str) -> str:
    return one if one == other else f"{one}, {other}"
