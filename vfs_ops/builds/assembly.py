"""From batches of feature maps to whole shards on the store."""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfs_ops.builds.reports import ShardReport
from vfs_ops.builds.stretches import PendingCache, Stretch
from vfs_ops.caches.layout import write_receipt, write_shard
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.values import to_stored
from vfs_ops.errors import DamagedError
from vfs_ops.identity.spec import shard_inputs
from vfs_ops.store.workspace import Workspace


class ShardStore:
    """Gathers batches, given in order, into shards and stores them; after one failure, nothing.

    Batches that the model has finished already must not fill a shard around a hole.

    Parameters
    ----------
    workspace
        Where the caches lie.
    pending
        The caches of the pass.
    digest
        Returns the content digest of a row.
    device
        What computes, for the receipts.
    """

    def __init__(
        self,
        workspace: Workspace,
        pending: Sequence[PendingCache],
        digest: Callable[[int], bytes],
        device: str,
    ) -> None:
        self._pending = pending
        self._assemblers = [_Assembler(workspace, cache, digest, device) for cache in pending]
        self._failed = False
        self._reports: queue.SimpleQueue[ShardReport] = queue.SimpleQueue()

    def finished(self) -> Iterator[ShardReport]:
        """Yield the shards that were finished since the last call, those before a failure too."""
        while not self._reports.empty():
            yield self._reports.get()

    def add(
        self,
        stretch: Stretch,
        rows: range,
        maps: Sequence[NDArray[np.float32]],
        reasons: dict[int, str],
    ) -> None:
        """Take a batch, and store the shards that it completes.

        Parameters
        ----------
        stretch, rows
            Where the batch lies.
        maps
            Per layer of the extractor, shape (image, y, x, channel).
        reasons
            Why rows are unreadable, by row.
        """
        if self._failed:
            return
        self._failed = True  # until all of it is stored
        wanted = [self._assemblers[place] for place in stretch.wanted(self._pending, rows.start)]
        values = [_convert(each.cache, rows, maps[each.cache.layer], reasons) for each in wanted]
        for assembler, (stored, why) in zip(wanted, values, strict=True):
            report = assembler.add(rows, stored, why)
            if report is not None:
                self._reports.put(report)
        self._failed = False


def _convert(
    cache: PendingCache, rows: range, maps: NDArray[np.float32], reasons: dict[int, str]
) -> tuple[NDArray[Any], dict[int, str]]:
    """Return a batch as stored, and why some of its rows are invalid."""
    if reasons:
        maps = maps.copy()  # other layers keep theirs
        maps[[row - rows.start for row in reasons]] = 0
    stored, finite = to_stored(maps, cache.plan.dtype)
    why = dict(reasons)
    for place in np.flatnonzero(~finite).tolist():
        why[rows.start + place] = "the model's features of this image are not finite, or too large"
    return stored, why


@dataclass
class _Assembler:
    """Gathers batches of one cache into one whole shard at a time, and writes it."""

    workspace: Workspace
    cache: PendingCache
    digest: Callable[[int], bytes]
    device: str
    features: NDArray[Any] | None = None
    reasons: dict[int, str] = field(default_factory=dict)
    gathered: int = 0
    started: float = 0.0

    def add(self, rows: range, stored: NDArray[Any], reasons: dict[int, str]) -> ShardReport | None:
        plan = self.cache.plan
        shard = rows.start // plan.images_per_shard
        whole = plan.shard_rows(shard)
        if self.features is None:
            self.features = np.zeros((len(whole), *plan.image_shape), plan.dtype)
            self.reasons, self.gathered, self.started = {}, 0, time.monotonic()
        self.features[rows.start - whole.start : rows.stop - whole.start] = stored
        self.reasons.update(reasons)
        self.gathered += len(rows)
        if rows.stop != whole.stop:
            return None
        if self.gathered != len(whole):
            raise DamagedError(
                f"shard {shard} of cache {plan.cache[:12]} was given {self.gathered} of "
                f"{len(whole)} rows; nothing was written; build again"
            )
        receipt, repaired = self._write(shard, whole, self.features)
        self.features = None
        return ShardReport(
            cache=plan.cache,
            layer=self.cache.spec.extractor.layer,
            shard=shard,
            images=len(whole),
            bytes=receipt.feature_bytes,
            seconds=receipt.seconds,
            host=receipt.host,
            worker="",
            action="repaired" if repaired else "computed",
        )

    def _write(self, shard: int, rows: range, features: NDArray[Any]) -> tuple[Receipt, bool]:
        stored = write_shard(self.workspace, self.cache.plan, shard, features, self.reasons)
        receipt = Receipt(
            **stored.fields,
            inputs=shard_inputs(self.cache.spec, map(self.digest, rows)),
            seconds=round(time.monotonic() - self.started, 3),
            host=socket.gethostname(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            device=self.device,
        )
        return write_receipt(self.workspace, self.cache.spec.id, receipt), stored.repaired
