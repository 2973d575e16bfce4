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
from vfs_ops.kernel.blocks import Part, Scratch
from vfs_ops.kernel.exact import exact_scores, window_scores
from vfs_ops.kernel.float_pass import float_errors, float_scores, rounding_of_factors, window_errors
from vfs_ops.kernel.spreading import spread
from vfs_ops.kernel.topk import Best, best_of, joined

_IMAGES_AT_ONCE: Final = 256  # decided together, before it is looked again which are still needed
_IMAGES_OF_ONE_THREAD: Final = range(16, 129)  # decided by one thread in one go
_VALUES_OF_ONE_THREAD: Final = 1 << 18  # of windows: 1 MB of float32, which stay in the cache


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

    def of(self, query: int | slice, images: slice) -> Proposed:
        """Return views of some queries and images."""
        at = query, images
        return Proposed(self.highest[at], self.window[at], self.others[at])


@dataclass(frozen=True, eq=False)
class Images:
    """The rows of some parts, numbered through."""

    parts: Sequence[Part]
    rounding: float
    """See `vfs_ops.kernel.float_pass.rounding_of_factors`."""
    starts: NDArray[np.intp]
    """Number of the first row of each part, and of all rows."""
    image: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Self:
        """Take the rows of some parts, one after the other."""
        starts = np.cumsum([0, *(len(part.block) for part in parts)])
        none = np.empty(0, np.int64)
        return cls(
            parts,
            rounding_of_factors(*parts[0].block.kind) if parts else 0,
            starts,
            np.concatenate([none, *(part.images for part in parts)]),
            np.concatenate([none, *(part.groups for part in parts)]),
        )

    def by_part(self, numbers: NDArray[np.intp]) -> Iterator[tuple[Part, slice, NDArray[np.intp]]]:
        """Cut ascending numbers by part: yield which of them are a part's, and its own rows."""
        cuts = np.searchsorted(numbers, self.starts)
        for part, first, start, stop in zip(
            self.parts, self.starts.tolist(), cuts[:-1].tolist(), cuts[1:].tolist(), strict=False
        ):
            if start < stop:
                yield part, slice(start, stop), numbers[start:stop] - first

    def exact(
        self,
        query: Batch,
        numbers: NDArray[np.intp],
        needed: NDArray[np.float64],
        scratch: Scratch,
    ) -> Best:
        """Score exactly what may be the best window of some images, whose numbers ascend.

        They come in no order, with `numbers` as groups. Images whose best window cannot reach
        `needed` may be left out.
        """
        [error] = float_errors(query, self.rounding)
        found: list[Best] = []

        share = -(-len(numbers) // torch.get_num_threads())
        at_once = min(max(share, _IMAGES_OF_ONE_THREAD[0]), _IMAGES_OF_ONE_THREAD[-1])

        def some(start: int, scratch: Scratch) -> None:
            part = slice(start, start + at_once)
            found.append(self._exact(query, numbers[part], needed[part], float(error), scratch))

        spread(range(0, len(numbers), at_once), some, scratch)
        return joined(found)

    def windows(
        self,
        query: Batch,
        numbers: NDArray[np.intp],
        window: NDArray[np.int32],
        needed: NDArray[np.float64],
        scratch: Scratch,
    ) -> Best:
        """Score exactly one window of each of some images, if it may reach `needed`.

        `numbers` ascend, and are the groups of what is returned.
        """
        found: list[Best] = []
        size = query.patterns[0].products.size
        at_once = max(1, min(_VALUES_OF_ONE_THREAD // size, _IMAGES_AT_ONCE // 2))

        def some(start: int, scratch: Scratch) -> None:
            part = slice(start, start + at_once)
            found.append(self._windows(query, numbers[part], window[part], needed[part], scratch))

        spread(range(0, len(numbers), at_once), some, scratch)
        return joined(found)

    def _windows(
        self,
        query: Batch,
        numbers: NDArray[np.intp],
        window: NDArray[np.int32],
        needed: NDArray[np.float64],
        scratch: Scratch,
    ) -> Best:
        pattern, features = query.patterns[0], self.parts[0].block.features
        shape, device = (len(numbers), *pattern.products.shape), features.device
        stored = scratch.take("window", shape, features.dtype, device)
        norms = scratch.take("window norms", shape[:2], torch.float32, device)
        y, x = np.divmod(window.astype(np.int64), pattern.offsets(query.grid)[1])
        down, across = query.grid
        steps = pattern.cells[:, 0] * across + pattern.cells[:, 1]
        begin = y * across + x
        for part, at, rows in self.by_part(numbers):
            places = ((rows * down * across + begin[at])[:, None] + steps).ravel()
            cells = torch.from_numpy(places).to(device)
            block = part.block
            torch.index_select(block.features.flatten(0, 2), 0, cells, out=stored[at].flatten(0, 1))
            torch.index_select(block.norms.flatten(), 0, cells, out=norms[at].flatten())
        values = scratch.take("window values", shape, torch.float32, device).copy_(stored)
        if (least := needed - window_errors(query)).max() > -np.inf:
            weights = torch.from_numpy(pattern.squared).to(device)
            made = scratch.take("window products", shape, torch.float32, device)
            sums = torch.mul(values, query.columns.to(device), out=made).sum(dim=2).sum(dim=1)
            inverse = (norms.double() @ weights).rsqrt_().nan_to_num_(posinf=0)
            fast = sums.double().mul_(inverse).cpu().numpy()
            kept = np.flatnonzero(fast >= least)
            values = values[torch.from_numpy(kept).to(device)]
            numbers, y, x = numbers[kept], y[kept], x[kept]
        score = window_scores(pattern, values.cpu().numpy())  # float32 holds float16 exactly
        return Best(score, self.image[numbers], y, x, numbers)

    def _exact(
        self,
        query: Batch,
        numbers: NDArray[np.intp],
        needed: NDArray[np.float64],
        error: float,
        scratch: Scratch,
    ) -> Best:
        first = self.parts[0].block
        device, shape = first.features.device, (len(numbers), *first.features.shape[1:])
        features = scratch.take("chosen", shape, first.features.dtype, device)
        norms = scratch.take("chosen norms", shape[:-1], torch.float32, device)
        for part, at, rows in self.by_part(numbers):
            chosen = torch.from_numpy(rows).to(device)
            torch.index_select(part.block.features, 0, chosen, out=features[at])
            torch.index_select(part.block.norms, 0, chosen, out=norms[at])
        scores = np.empty((len(numbers), *query.patterns[0].offsets(query.grid)))
        for _, part_of, fast in float_scores(
            query, features, norms, np.arange(len(numbers)), scratch
        ):
            scores[part_of] = fast[0].permute(2, 0, 1).cpu().numpy()
        highest = scores.max(axis=(1, 2))
        least = np.where(highest >= needed - error, highest - 2 * error, np.inf)
        which, y, x = np.nonzero(scores >= least[:, None, None])
        rows, row = np.unique(which, return_inverse=True)
        stored = features[torch.from_numpy(rows).to(device)].to("cpu", torch.float32).numpy()
        score = exact_scores(query.patterns[0], stored, row, y, x)  # float32 holds float16 exactly
        return Best(score, self.image[numbers[which]], y, x, numbers[which])


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
