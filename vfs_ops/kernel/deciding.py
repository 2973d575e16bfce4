"""What the fast passes proposed, decided in float64.

Images are taken in falling order of their bounds. First of each only the window that a pass found
highest is scored: in float32, and exactly if it may be among the best. Once the k-th exact score
is known so far, the images that may have another such window are left, few unless neighbouring
windows are alike: all their windows are scored in float32, those within twice the bound of the
image's best exactly.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from vfs_ops.kernel.batches import Batch
from vfs_ops.kernel.blocks import Scratch
from vfs_ops.kernel.candidates import Images
from vfs_ops.kernel.topk import Best, best_of

_IMAGES_AT_ONCE: Final = 256  # decided together, before it is looked again which are still needed


@dataclass(frozen=True, eq=False)
class Proposed:
    """What a fast pass knows of each image, for each query; arrays of shape (query, image)."""

    highest: NDArray[np.float32]
    """What no window of the image exceeds; -inf for images that may not be hits."""
    window: NDArray[np.int32]
    """Number, row by row, of the window that scored highest in the pass."""
    others: NDArray[np.float32]
    """What no other window of the image exceeds."""

    @classmethod
    def nothing(cls, queries: int, images: int) -> Self:
        """Return arrays to fill, of images that may not be hits."""
        shape = queries, images
        none = np.full(shape, -np.inf, np.float32)
        return cls(none, np.zeros(shape, np.int32), none.copy())

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Put what is known of some images after each other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.highest for part in parts], axis=1),
            np.concatenate([part.window for part in parts], axis=1),
            np.concatenate([part.others for part in parts], axis=1),
        )

    def of(self, query: int) -> Proposed:
        """Return views of one query's, shape (image,)."""
        return Proposed(self.highest[query], self.window[query], self.others[query])


def decide(
    query: Batch, images: Images, proposed: Proposed, k: int, floor: float, scratch: Scratch
) -> Best:
    """Return the best windows of one query, at most `k`, one per group.

    Parameters
    ----------
    query
        A batch of one.
    images
        What was searched.
    proposed
        Its arrays have shape (image,).
    k
        How many to return at most.
    floor
        Windows that score less may be left out.
    scratch
        Buffers.
    """
    best = Best.empty()
    highest, others = proposed.highest, proposed.others

    def needed(numbers: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.maximum(best.needed(images.group[numbers], k), floor)

    def merged(found: Best) -> Best:
        return best_of([best, replace(found, group=images.group[found.group])], k)

    def of_one_window(numbers: NDArray[np.intp]) -> Best:
        numbers = np.sort(numbers)
        windows = proposed.window[numbers]
        return merged(images.windows(query, numbers, windows, needed(numbers), scratch))

    left = np.flatnonzero((highest > -np.inf) & (highest >= floor))
    first = left[:0]
    if len(left) > k:
        chosen = np.zeros(len(left), np.bool_)
        chosen[np.argpartition(highest[left], -k)[-k:]] = True
        first, left = left[chosen], left[~chosen]
        best = of_one_window(first)
        left = left[highest[left] >= needed(left)]
        if len(left) > k:
            left = _without_copies(images, first, left, k)
    for some in _in_order(left, highest):
        some = some[highest[some] >= needed(some)]
        if len(some):
            best = of_one_window(some)
    left = np.concatenate([first, left])
    for some in _in_order(left[others[left] >= needed(left)], others):
        some = np.sort(some[others[some] >= needed(some)])
        if len(some):
            best = merged(images.exact(query, some, needed(some), scratch))
    return best


def _in_order(numbers: NDArray[np.intp], bounds: NDArray[np.float32]) -> Iterator[NDArray[np.intp]]:
    """Yield some numbers at a time, in falling order of their bounds."""
    order = numbers[np.argsort(-bounds[numbers], kind="stable")]
    for start in range(0, len(order), _IMAGES_AT_ONCE):
        yield order[start : start + _IMAGES_AT_ONCE]


def _without_copies(
    images: Images, decided: NDArray[np.intp], left: NDArray[np.intp], k: int
) -> NDArray[np.intp]:
    """Leave out images that equal `k` of other groups with lower numbers, or one of their own.

    They score the same and lose the tie, so blank images by the thousand are not scored exactly.
    """
    together = np.sort(np.concatenate([decided, left]))
    order = np.argsort(images.image[together])
    digests = _digests(images, together)
    copies: Counter[bytes] = Counter()
    seen: set[tuple[bytes, int]] = set()
    kept = []
    for number, digest in zip(together[order].tolist(), digests[order], strict=True):
        group = int(images.group[number])
        if copies[digest] < k and (digest, group) not in seen:
            copies[digest] += 1
            seen.add((digest, group))
            kept.append(number)
    return np.intersect1d(left, kept)


def _digests(images: Images, numbers: NDArray[np.intp]) -> NDArray[np.object_]:
    """Return bytes for each image that are equal where images are; numbers ascend.

    Features are read only where the norms of all cells are equal.
    """
    keys: list[bytes] = []
    for part, _, rows in images.by_part(numbers):
        norms = part.block.norms[torch.from_numpy(rows)].cpu().numpy()
        keys += [row.tobytes() for row in norms]
    common = Counter(keys)
    for part, at, rows in images.by_part(numbers):
        for number, row in zip(range(at.start, at.stop), rows.tolist(), strict=True):
            if common[keys[number]] > 1:
                stored = part.block.features[row].cpu().numpy()
                keys[number] = hashlib.sha256(stored.tobytes()).digest()
    return np.array(keys, np.object_)
