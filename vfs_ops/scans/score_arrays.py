"""Scores of everything: each image's best, and whole maps of offsets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vfs_ops.caches.cache import Cache
from vfs_ops.datasets.predicates import Filters
from vfs_ops.errors import QueryError
from vfs_ops.kernel.scoring import all_scores
from vfs_ops.kernel.topk import Best
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.scans.plan import ScanPlan, plan_scan
from vfs_ops.scans.provenance import Ledger
from vfs_ops.scans.queries import Query
from vfs_ops.scans.run import Questions, executor_name, shard_results
from vfs_ops.scans.tasks import ScanJob

if TYPE_CHECKING:
    import xarray


def score_images(
    cache: Cache,
    query: Query,
    *,
    where: Filters | None = None,
    threads: int | None = None,
    client: Any = None,
    allow_partial: bool = False,
    progress: ProgressCallback = silent,
) -> xarray.DataArray:
    """Score every image by its best window, for distributions against labels or metadata.

    The scores are those that hits report, in float64 as in `vfs_ops.kernel.exact`, not the
    proposals of the fast pass. The query's own image is among them.

    Parameters
    ----------
    cache, query, where, threads, client, allow_partial, progress
        See `vfs_ops.scans.search.search`.

    Returns
    -------
    xarray.DataArray
        Float64 along ``image``: the images that match and have features, ascending. Coordinates
        along it are ``image`` (row of the dataset), ``cell_y`` and ``cell_x`` (where the best
        window begins), ``label``, ``uri`` and the dataset's metadata; one that has a name of
        these gets the prefix ``meta.``. The attributes are those of
        `vfs_ops.scans.provenance.Provenance`: what it took, and ``complete``, 0 where shards were
        missing.

    Raises
    ------
    QueryError, ExtractorMismatchError, PredicateError, IncompleteError, DamagedError, StorageError
        As `vfs_ops.scans.search.search` does.

    Examples
    --------
    >>> scores = score_images(cache, query)  # doctest: +SKIP
    >>> scores.groupby("label").mean()  # doctest: +SKIP
    """
    import xarray as xr

    ledger = Ledger(cache)
    questions = ledger.reading(lambda: Questions.of(cache, query, None))
    plan = ledger.reading(
        lambda: plan_scan(
            cache,
            where=where,
            threads=threads,
            allow_partial=allow_partial,
            queries=questions.queries,
            client=client,
        )
    )
    [best] = best_windows(cache, questions, plan, ledger, client, allow_partial, progress)
    coordinates: dict[str, Any] = {
        "image": best.image,
        "cell_y": ("image", best.y),
        "cell_x": ("image", best.x),
        **ledger.reading(lambda: _described(cache, best.image, ("image", "cell_y", "cell_x"))),
    }
    return xr.DataArray(
        best.score,
        coordinates,
        ("image",),
        name="score",
        attrs=ledger.of_scan(executor_name(cache, plan, client), plan).attributes(),
    )


def best_windows(
    cache: Cache,
    questions: Questions,
    plan: ScanPlan,
    ledger: Ledger,
    client: Any = None,
    allow_partial: bool = False,
    progress: ProgressCallback = silent,
) -> list[Best]:
    """Return each image's best window for each query, in the order of images.

    What it takes, and what of the plan was not there, is counted in `ledger`.
    """
    nothing_left_out = tuple(np.empty(0, np.int64) for _ in questions.queries)
    job = ScanJob(cache.source, cache.grid, None, nothing_left_out, allow_partial)
    parts: list[tuple[Best, ...]] = []
    total = len(plan.tasks)
    progress(Progress("score", 0, total, "shards"))
    with closing(shard_results(cache, job, questions.patterns, plan, client)) as finished:
        for results in finished:
            for result in results:
                ledger.add(result)
                parts.append(result.best)
            progress(Progress("score", len(parts), total, "shards"))
    return [_in_order(of_query) for of_query in zip(*parts, strict=True)]


def _in_order(parts: Sequence[Best]) -> Best:
    image = np.concatenate([part.image for part in parts])
    order = np.argsort(image)
    score, y, x = (
        np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("score", "y", "x")
    )
    return Best(score, image[order], y, x, image[order])


def score_map(
    cache: Cache, query: Query, images: Sequence[int] | NDArray[np.integer]
) -> xarray.DataArray:
    """Score every window of some images, exactly.

    Only the chunks that hold these images are read.

    Parameters
    ----------
    cache
        Where their features are.
    query
        Of the cache's own extractor.
    images
        Rows of the dataset, in any order.

    Returns
    -------
    xarray.DataArray
        Float64 (image, y, x), where y and x are the row and column of cells at which the region
        begins; NaN for an image without features. Coordinates along ``image``, and attributes, as
        of `score_images`.

    Raises
    ------
    QueryError, ExtractorMismatchError
        If the query does not fit the cache, or there is no such image.
    DamagedError, StorageError
        If the features cannot be read.
    """
    import xarray as xr

    ledger = Ledger(cache)
    [pattern] = ledger.reading(lambda: Questions.of(cache, query, None)).patterns
    rows = _whole_numbers(images)
    features = ledger.reading(lambda: cache.feature_maps_of(rows))
    scores = ledger.scoring(lambda: all_scores(pattern, features))
    scores[np.isin(rows, list(cache.invalid))] = np.nan
    return xr.DataArray(
        scores,
        {
            "image": rows,
            "y": np.arange(scores.shape[1]),
            "x": np.arange(scores.shape[2]),
            **ledger.reading(lambda: _described(cache, rows, ("image", "y", "x"))),
        },
        ("image", "y", "x"),
        name="score",
        attrs=ledger.of_images(rows).attributes(),
    )


def _whole_numbers(images: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    rows = np.asarray(images)
    if rows.ndim != 1 or (len(rows) and rows.dtype.kind not in "iu"):
        raise QueryError(
            f"images is {repr(images)[:40]}; expected a list of rows of the dataset, whole numbers "
            "from 0 up"
        )
    return rows.astype(np.int64)


def _described(cache: Cache, rows: NDArray[np.int64], taken: Sequence[str]) -> dict[str, Any]:
    """Return labels, URIs and metadata of images as coordinates along ``image``."""
    names = ["label", "uri", *cache.dataset.manifest.metadata_columns]
    table = cache.dataset.rows(rows.tolist(), names)
    described: dict[str, Any] = {}
    for name, column in zip(names, table.columns, strict=True):
        numeric = str(column.type) in ("int64", "double", "bool") and not column.null_count
        values = column.to_numpy() if numeric else np.empty(len(rows), object)
        if not numeric:
            values[:] = column.to_pylist()
        described[f"meta.{name}" if name in taken else name] = ("image", values)
    return described
