"""How a score compares with those of random regions of the same shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vfs_ops.caches.cache import Cache
from vfs_ops.datasets.predicates import Filters
from vfs_ops.datasets.same_images import rows_of
from vfs_ops.errors import QueryError
from vfs_ops.kernel.exact import Pattern, exact_scores
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.scans.options import check_whole
from vfs_ops.scans.provenance import Ledger, Provenance
from vfs_ops.scans.queries import Query
from vfs_ops.scans.run import Questions

_BYTES_AT_ONCE: Final = 64 << 20
"""Of feature maps that are held while they are scored."""


@dataclass(frozen=True, eq=False)
class NullScores:
    """Scores of a query at random places of random images: what chance gives."""

    scores: NDArray[np.float64]
    """Exact scores, ascending; shape (sample,)."""
    seed: int
    provenance: Provenance
    """Which cache they are of, and what they took."""

    def __repr__(self) -> str:
        low, middle, high = np.quantile(self.scores, [0.05, 0.5, 0.95])
        return (
            f"<NullScores: {len(self.scores)} random regions score {middle:.3f} in the median, "
            f"{low:.3f} to {high:.3f} in nine of ten; cache {self.provenance.cache[:12]}>"
        )

    def percentile(self, score: ArrayLike) -> NDArray[np.float64]:
        """Return how many percent of random regions score less; equal ones count half."""
        below = np.searchsorted(self.scores, score, "left")
        up_to = np.searchsorted(self.scores, score, "right")
        return np.asarray(100 * (below + up_to) / (2 * len(self.scores)))

    def p_value(self, score: ArrayLike) -> NDArray[np.float64]:
        """Return how probable it is that one random region scores as high, or higher.

        With b of n random scores as high, (b + 1) / (n + 1), which is never 0 and keeps its
        promise for any n: B. Phipson and G. K. Smyth, "Permutation P-values should never be zero",
        Stat. Appl. Genet. Mol. Biol. 9(1), 39 (2010).

        It is the probability of one region, chosen without looking. A hit is the best of very
        many: among w windows, about w times this many score as high by chance alone.
        """
        as_high = len(self.scores) - np.searchsorted(self.scores, score, "left")
        return np.asarray((as_high + 1) / (len(self.scores) + 1))


def null_scores(
    cache: Cache,
    query: Query,
    *,
    samples: int = 1000,
    seed: int = 0,
    where: Filters | None = None,
    exclude_query_image: bool = True,
    progress: ProgressCallback = silent,
) -> NullScores:
    """Score a query against random regions of its own shape, so that 0.43 can be called high.

    Each sample is an image, drawn without replacement as long as there are enough, and a place on
    its grid, drawn evenly. Only the chunks that hold these images are read.

    Parameters
    ----------
    cache
        Where the random regions are drawn.
    query
        Of the cache's own extractor.
    samples
        How many regions.
    seed
        The same seed draws the same regions.
    where
        Draw only from images whose metadata match; see `vfs_ops.datasets.predicates`.
    exclude_query_image
        Draw none from the query's own image.
    progress
        Told how many regions are scored.

    Raises
    ------
    QueryError
        If no image is left to draw from, or an option cannot be used.
    ExtractorMismatchError, PredicateError, DamagedError, StorageError
        As `vfs_ops.scans.search.search` does.

    Examples
    --------
    >>> chance = null_scores(cache, query)  # doctest: +SKIP
    >>> chance.percentile(hits.score)  # doctest: +SKIP
    """
    ledger, count = Ledger(cache), check_whole("samples", samples)
    [pattern] = ledger.reading(lambda: Questions.of(cache, query, None)).patterns
    allowed = ledger.reading(lambda: cache.dataset.where(where))
    allowed[list(cache.invalid)] = False
    if exclude_query_image:
        allowed[ledger.reading(lambda: rows_of(cache.dataset, [query.digest]))[0]] = False
    rows = np.flatnonzero(allowed)
    if not len(rows):
        raise QueryError("no image is left to draw regions from; widen the filter")
    random = np.random.default_rng(check_whole("seed", seed, least=0))
    drawn = np.concatenate([random.permutation(rows) for _ in range(-(-count // len(rows)))])[
        :count
    ]
    down, across = pattern.offsets(cache.grid)
    y, x = random.integers(0, down, count), random.integers(0, across, count)
    order, scores = np.argsort(drawn, kind="stable"), np.empty(count)
    at_once = max(1, _BYTES_AT_ONCE // cache.plan.image_bytes)
    for start in range(0, count, at_once):
        part = order[start : start + at_once]
        scores[part] = _scores(ledger, cache, pattern, drawn[part], y[part], x[part])
        progress(Progress("null", start + len(part), count, "regions"))
    return NullScores(np.sort(scores), seed, ledger.of_images(drawn))


def _scores(
    ledger: Ledger,
    cache: Cache,
    pattern: Pattern,
    images: NDArray[np.int64],
    y: NDArray[np.int64],
    x: NDArray[np.int64],
) -> NDArray[np.float64]:
    features = ledger.reading(lambda: cache.feature_maps_of(images))
    return ledger.scoring(lambda: exact_scores(pattern, features, np.arange(len(images)), y, x))
