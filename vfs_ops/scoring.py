"""The kernel: a batch of queries against blocks of feature maps.

A fast pass scores every window of every image, in float32 (`vfs_ops.float_pass`) or from the
compact form (`vfs_ops.compact_pass`), with a proven error bound, and only proposes: what comes out
of it is, for each image and query, a score that no window of the image exceeds. Images are then
taken in falling order of that bound, the few that could be among the best: their windows are
scored again in float32, those within twice the bound of the image's best in float64 by
`vfs_ops.exact`, and that decides. Once the k-th exact score is above what is left, nothing is
left. So hits have the same bits whatever the blocks, forms, threads and other queries.
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

from vfs_ops.batches import Batch
from vfs_ops.blocks import Block, Part, Scratch, tensor_of
from vfs_ops.compact_pass import compact_errors, compact_scores
from vfs_ops.exact import Pattern, exact_scores
from vfs_ops.float_pass import float_errors, float_scores, rounding_of_factors
from vfs_ops.spreading import spread
from vfs_ops.topk import Best, best_of, joined

_COMPACT_SHARE: Final = 0.25
"""Of a block's rows: where fewer may be hits, these alone are scored, from the stored values."""
_IMAGES_AT_ONCE: Final = 256  # decided together, before it is looked again which are still needed
_IMAGES_OF_ONE_THREAD: Final = range(16, 129)  # decided by one thread in one go


def best_of_parts(
    batch: Batch,
    parts: Sequence[Part],
    k: int,
    floors: NDArray[np.float64] | None = None,
    scratch: Scratch | None = None,
) -> list[Best]:
    """Return the best windows of some blocks for each query: at most `k`, one per group.

    Parameters
    ----------
    batch
        The queries.
    parts
        What to search. Several blocks in one call cost less than one by one: what is exactly
        scored is chosen from all of them.
    k
        How many to return at most.
    floors
        An exact score for each query, shape (query,): windows below it may be left out. It saves
        work where a search already has `k` better ones, and changes nothing else.
    scratch
        Buffers to use again; of this thread alone.

    Returns
    -------
    list of Best
        One per query.
    """
    scratch = Scratch() if scratch is None else scratch
    images = _Images.of([part for part in parts if part.allowed.any()])
    if floors is None:
        floors = np.full(len(batch), -np.inf)
    highest = _propose(batch, images, scratch)
    found = [Best.empty()] * len(batch)

    def decide(number: int, scratch: Scratch) -> None:
        query, floor = batch.singles[number], float(floors[number])
        found[number] = _decide(query, images, highest[number], k, floor, scratch)

    spread(range(len(batch)), decide, scratch)
    return found


def best_scores(
    batch: Batch, part: Part, scratch: Scratch | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the exact score of the best window of every image, and where it begins.

    Returns
    -------
    score : ndarray
        Shape (query, row); NaN for rows that are not allowed.
    y, x : ndarray
        Shape (query, row), -1 for rows that are not allowed. Of equal windows, the one with the
        lower y, then x.
    """
    scratch = Scratch() if scratch is None else scratch
    shape = (len(batch), len(part.block))
    score, y, x = np.full(shape, np.nan), np.full(shape, -1), np.full(shape, -1)
    images, allowed = _Images.of([part]), part.allowed_to(len(batch))
    for number, query in enumerate(batch.singles):
        rows = np.flatnonzero(allowed[number])
        best = images.exact(query, rows, np.full(len(rows), -np.inf), scratch)
        order = np.lexsort((best.x, best.y, -best.score, best.group))
        row, first = np.unique(best.group[order], return_index=True)
        kept = order[first]
        score[number, row] = best.score[kept]
        y[number, row], x[number, row] = best.y[kept], best.x[kept]
    return score, y, x


def all_scores(pattern: Pattern, features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the exact score of every window of some feature maps.

    Parameters
    ----------
    pattern
        The query.
    features
        Shape (row, y, x, channel), contiguous, as stored.

    Returns
    -------
    ndarray
        Shape (row, offset y, offset x).
    """
    rows, *grid, _ = features.shape
    shape = (rows, *pattern.offsets((grid[0], grid[1])))
    windows = np.nonzero(np.ones(shape, np.bool_))
    stored = tensor_of(features).to(torch.float32).numpy()  # many times as fast as NumPy's
    return exact_scores(pattern, stored, *windows).reshape(shape)


@dataclass(frozen=True, eq=False)
class _Images:
    """The rows of some parts, numbered through."""

    parts: Sequence[Part]
    rounding: float
    """See `vfs_ops.float_pass.rounding_of_factors`."""
    starts: NDArray[np.intp]
    """Number of the first row of each part, and of all rows."""
    image: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Self:
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


def _propose(batch: Batch, images: _Images, scratch: Scratch) -> NDArray[np.float32]:
    """Return what no window of an image exceeds, -inf for those that may not be hits.

    Shape (query, row).
    """
    highest = np.full((len(batch), int(images.starts[-1])), -np.inf, np.float32)

    def one(number: int, scratch: Scratch) -> None:
        part, start = images.parts[number], int(images.starts[number])
        bounds = highest[:, start : start + len(part.block)]
        allowed = part.allowed_to(len(batch))
        needed = np.asarray(allowed.any(axis=0))
        if part.block.tiles and needed.mean() >= _COMPACT_SHARE:
            _propose_compact(batch, part.block, needed, bounds, scratch)
        else:
            rows = np.flatnonzero(needed)
            _propose_float(batch, part.block, rows, images.rounding, bounds, scratch)
        bounds[~allowed] = -np.inf

    spread(range(len(images.parts)), one, scratch)
    return highest


def _propose_float(
    batch: Batch,
    block: Block,
    rows: NDArray[np.intp],
    rounding: float,
    bounds: NDArray[np.float32],
    scratch: Scratch,
) -> None:
    errors = float_errors(batch, rounding)[:, None]
    for group, part, scores in float_scores(batch, block.features, block.norms, rows, scratch):
        fast = scores.amax(dim=(1, 2)).cpu().numpy()
        bounds[np.ix_(group.queries, rows[part])] = fast + errors[group.queries]


def _propose_compact(
    batch: Batch,
    block: Block,
    needed: NDArray[np.bool_],
    bounds: NDArray[np.float32],
    scratch: Scratch,
) -> None:
    errors, start = compact_errors(batch), 0
    for tile in block.tiles:
        part = slice(start, start + len(tile.share))
        start = part.stop
        if needed[part].any():
            for group, scores, share in compact_scores(batch, tile, scratch):
                fast = scores.amax(dim=(1, 2)).numpy()
                bounds[group.queries, part] = errors.bounds(group.queries, share.numpy(), fast)


def _decide(
    query: Batch,
    images: _Images,
    highest: NDArray[np.float32],
    k: int,
    floor: float,
    scratch: Scratch,
) -> Best:
    """Return the best windows of one query, given what no window of an image exceeds."""
    best = Best.empty()

    def needed(numbers: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.maximum(best.needed(images.group[numbers], k), floor)

    def decided(numbers: NDArray[np.intp]) -> Best:
        numbers = np.sort(numbers)
        found = images.exact(query, numbers, needed(numbers), scratch)
        found = replace(found, group=images.group[found.group])
        return best_of([best, found], k)

    left = np.flatnonzero((highest > -np.inf) & (highest >= floor))
    if len(left) > k:
        chosen = np.zeros(len(left), np.bool_)
        chosen[np.argpartition(highest[left], -k)[-k:]] = True
        first, left = left[chosen], left[~chosen]
        best = decided(first)
        left = left[highest[left] >= needed(left)]
        if len(left) > k:
            left = _without_copies(images, first, left, k)
    left = left[np.argsort(-highest[left], kind="stable")]
    for start in range(0, len(left), _IMAGES_AT_ONCE):
        some = left[start : start + _IMAGES_AT_ONCE]
        some = some[highest[some] >= needed(some)]
        if len(some):
            best = decided(some)
    return best


def _without_copies(
    images: _Images, decided: NDArray[np.intp], left: NDArray[np.intp], k: int
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


def _digests(images: _Images, numbers: NDArray[np.intp]) -> NDArray[np.object_]:
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
