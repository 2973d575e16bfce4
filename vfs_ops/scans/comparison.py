"""The same queries against several caches: how much models, layers or checkpoints agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vfs_ops.caches.cache import Cache
from vfs_ops.datasets.predicates import Filters
from vfs_ops.datasets.same_images import rows_of
from vfs_ops.errors import MismatchError, QueryError
from vfs_ops.progress import ProgressCallback, silent
from vfs_ops.scans.hits import Hits, frame_html
from vfs_ops.scans.options import check_whole
from vfs_ops.scans.plan import plan_scan
from vfs_ops.scans.provenance import Ledger, Provenance, counted
from vfs_ops.scans.queries import Query, query_again
from vfs_ops.scans.run import Questions, executor_name
from vfs_ops.scans.score_arrays import best_windows
from vfs_ops.scans.search import search

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Numbers of each query, and their means.

    ``overlap``
        Which part of two caches' k best images is the same: the size of the intersection over k,
        or over the longer list's length if that is less. The agreement at depth k of W. Webber,
        A. Moffat and J. Zobel, "A similarity measure for indefinite rankings", ACM Trans. Inf.
        Syst. 28(4), 20 (2010).
    ``distinct_labels``
        How many labels one cache's k best images have; images without a label count for nothing.
    ``spearman``, ``kendall``
        Rank correlation, over the same random sample of images but for the query's own, of the best
        scores that two caches give them: C. Spearman's ρ, with equal ranks averaged (Am. J.
        Psychol. 15, 72, 1904), and M. G. Kendall's τ_b (Biometrika 33, 239, 1945). NaN where all
        scores of a cache are equal.

    The standard error of a mean over n queries is s / √n, s with n - 1 in its denominator
    (J. M. Bland and D. G. Altman, BMJ 331, 903, 2005); NaN for one query. It tells how much the
    mean would move with other queries drawn alike, not with other images.
    """

    k: int
    values: tuple[tuple[int, str, str, str | None, float], ...]
    """Query, measure, cache, the other cache or None, value."""
    hits: Mapping[str, tuple[Hits, ...]]
    """By name of the cache: the hits of each query."""
    provenance: Mapping[str, Provenance]
    """By name of the cache: what its queries, hits and ranks took together."""

    def per_query(self) -> pandas.DataFrame:
        """Return ``query``, ``measure``, ``cache``, ``other`` and ``value``, a row per number."""
        import pandas as pd

        names = ["query", "measure", "cache", "other", "value"]
        return pd.DataFrame(list(self.values), columns=names)

    def to_frame(self) -> pandas.DataFrame:
        """Return the mean over the queries of each measure, for each cache or pair of caches.

        Returns
        -------
        pandas.DataFrame
            ``measure``, ``cache``, ``other`` (None where a measure is of one cache), ``k``,
            ``mean``, ``standard_error``, ``queries`` (of which the measure has a value).
        """
        import pandas as pd

        grouped: dict[tuple[str, str, str | None], list[float]] = {}
        for _, measure, cache, other, value in self.values:
            grouped.setdefault((measure, cache, other), []).append(value)
        rows = []
        for (measure, cache, other), found in grouped.items():
            known = np.array(found)[~np.isnan(found)]
            count = len(known)
            error = known.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
            mean = known.mean() if count else np.nan
            rows.append((measure, cache, other, self.k, mean, error, count))
        names = ["measure", "cache", "other", "k", "mean", "standard_error", "queries"]
        return pd.DataFrame(rows, columns=names)

    def __repr__(self) -> str:
        return f"<Comparison of {len(self.hits)} caches, k = {self.k}>\n{self.to_frame()}"

    def _repr_html_(self) -> str:
        return frame_html(self.to_frame())


def compare(
    queries: Sequence[Query] | Mapping[str, Sequence[Query]],
    caches: Mapping[str, Cache] | Sequence[Cache],
    k: int = 10,
    *,
    where: Filters | None = None,
    sample: int = 2000,
    seed: int = 0,
    threads: int | None = None,
    client: Any = None,
    progress: ProgressCallback = silent,
) -> Comparison:
    """Run the same queries against several caches of the same images.

    Parameters
    ----------
    queries
        Regions of images that are in the caches' dataset: where a query is of another extractor
        than a cache, the same part of the same image is taken from that cache. For images that
        are not, give the queries of each cache, in the same order, by the cache's name.
    caches
        Two or more, by the names to show; or a list of them, named by model and layer.
    k
        How many hits of each query are compared.
    where
        Search only images whose metadata match; see `vfs_ops.datasets.predicates`.
    sample
        How many images the rank correlations are over, at most.
    seed
        Draws these images.
    threads, client, progress
        See `vfs_ops.scans.search.search`.

    Returns
    -------
    Comparison
        What its measures are, and where from, stands there.

    Raises
    ------
    MismatchError
        If the caches are not of the same images.
    QueryError
        If there are fewer than two caches or no queries, or a query's image is not in the dataset.

    Examples
    --------
    >>> compare(faces, {"layer3": early, "layer4": late}, k=20).to_frame()  # doctest: +SKIP
    """
    limit = check_whole("k", k)
    named = dict(caches) if isinstance(caches, Mapping) else _named(caches)
    if len(named) < 2:
        raise QueryError(f"{len(named)} cache is given; expected two or more to compare")
    _check_images(named)
    looked_up = {
        name: counted(partial(_queries_for, name, cache, queries)) for name, cache in named.items()
    }
    asked = {name: found for name, (found, _) in looked_up.items()}
    counts = {len(found) for found in asked.values()}
    if counts in ({0}, set()) or len(counts) > 1:
        raise QueryError(
            f"the caches have {sorted(counts)} queries; expected the same number, one at least"
        )
    rows = _sampled(next(iter(named.values())), where, sample, seed)
    hits: dict[str, tuple[Hits, ...]] = {}
    scores: dict[str, list[NDArray[np.float64]]] = {}
    provenance: dict[str, Provenance] = {}
    for name, cache in named.items():
        found = search(
            cache,
            queries=asked[name],
            k=limit,
            where=where,
            threads=threads,
            client=client,
            progress=progress,
        )
        hits[name] = found.answers
        scores[name], ranks = _scores(cache, asked[name], rows, threads, client, progress)
        cost = looked_up[name][1]
        provenance[name] = found.provenance.joined(ranks).plus(cost, cost.reading)
    return Comparison(limit, tuple(_measured(hits, scores, limit)), hits, provenance)


def _measured(
    hits: Mapping[str, Sequence[Hits]], scores: Mapping[str, Sequence[NDArray[np.float64]]], k: int
) -> list[tuple[int, str, str, str | None, float]]:
    from scipy.stats import kendalltau, spearmanr

    values: list[tuple[int, str, str, str | None, float]] = []
    for name, answers in hits.items():
        for number, found in enumerate(answers):
            labels = {label for label in found.rows["label"].to_pylist() if label is not None}
            values.append((number, "distinct_labels", name, None, float(len(labels))))
    for one, other in combinations(hits, 2):
        for number, (ours, theirs) in enumerate(zip(hits[one], hits[other], strict=True)):
            depth = min(k, max(len(ours), len(theirs)))
            shared = len(np.intersect1d(ours.image, theirs.image)) / depth
            values.append((number, "overlap", one, other, shared))
            a, b = scores[one][number], scores[other][number]
            both = ~(np.isnan(a) | np.isnan(b))
            varied = both.sum() > 1 and np.ptp(a[both]) > 0 and np.ptp(b[both]) > 0
            for measure, correlation in (("spearman", spearmanr), ("kendall", kendalltau)):
                value = float(correlation(a[both], b[both])[0]) if varied else np.nan
                values.append((number, measure, one, other, value))
    return values


def _scores(
    cache: Cache,
    queries: Sequence[Query],
    rows: NDArray[np.bool_],
    threads: int | None,
    client: Any,
    progress: ProgressCallback,
) -> tuple[list[NDArray[np.float64]], Provenance]:
    """Return each query's best scores of some images, shape (image,); NaN for all others.

    Its own image is one of the others, as in a search.
    """
    ledger = Ledger(cache)
    questions = Questions.of(cache, None, queries)
    plan = plan_scan(cache, rows=rows, threads=threads, queries=queries, client=client)
    best = best_windows(cache, questions, plan, ledger, client, progress=progress)
    scores = [_by_row(of_query.image, of_query.score, cache.count) for of_query in best]
    own = ledger.reading(lambda: rows_of(cache.dataset, [query.digest for query in queries]))
    for of_query, left_out in zip(scores, own, strict=True):
        of_query[left_out] = np.nan
    return scores, ledger.of_scan(executor_name(cache, plan, client), plan)


def _by_row(
    image: NDArray[np.int64], score: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    scores = np.full(count, np.nan)
    scores[image] = score
    return scores


def _named(caches: Sequence[Cache]) -> dict[str, Cache]:
    named: dict[str, Cache] = {}
    for cache in caches:
        extractor = cache.spec.extractor
        name = f"{extractor.model} {extractor.layer}"
        named[f"{name} {cache.id[:6]}" if name in named else name] = cache
    return named


def _check_images(named: Mapping[str, Cache]) -> None:
    first, *others = named
    for name in others:
        if named[name].spec.images != named[first].spec.images:
            raise MismatchError(
                f"caches {first!r} and {name!r} are of other images ({named[first].count} and "
                f"{named[name].count}); build both from one dataset to compare them"
            )


def _queries_for(
    name: str, cache: Cache, queries: Sequence[Query] | Mapping[str, Sequence[Query]]
) -> list[Query]:
    if isinstance(queries, Mapping):
        if name not in queries:
            raise QueryError(f"there are no queries for cache {name!r}; give some by that name")
        return list(queries[name])
    return [
        query if query.extractor.id == cache.spec.extractor.id else query_again(query, cache)
        for query in queries
    ]


def _sampled(cache: Cache, where: Filters | None, sample: int, seed: int) -> NDArray[np.bool_]:
    """Choose the images of which ranks are correlated."""
    matching = np.flatnonzero(cache.dataset.where(where))
    count = min(check_whole("sample", sample), len(matching))
    chosen = np.zeros(cache.count, np.bool_)
    random = np.random.default_rng(check_whole("seed", seed, least=0))
    chosen[random.choice(matching, count, replace=False)] = True
    return chosen
