"""The score and the search, as slowly and plainly as can be."""

from __future__ import annotations

import math

import numpy as np

Window = tuple[float, int, int, int]


def naive_score(weights: np.ndarray, query: np.ndarray, window: np.ndarray) -> float:
    product = query_norm = window_norm = 0.0
    for y in range(weights.shape[0]):
        for x in range(weights.shape[1]):
            m = float(weights[y, x])
            if m > 0:
                q, s = query[y, x].astype(np.float64), window[y, x].astype(np.float64)
                product += m * m * float((q * s).sum())
                query_norm += m * m * float((q * q).sum())
                window_norm += m * m * float((s * s).sum())
    if query_norm == 0 or window_norm == 0:
        return 0.0
    return product / (math.sqrt(query_norm) * math.sqrt(window_norm))


def naive_search(
    weights: np.ndarray,
    query: np.ndarray,
    features: np.ndarray,
    k: int,
    *,
    rows: list[int] | None = None,
    groups: list[int] | None = None,
) -> list[Window]:
    """Return (score, image, y, x) of the best window of the best k groups."""
    high, wide = weights.shape
    best: dict[int, Window] = {}
    for image in range(len(features)) if rows is None else rows:
        for y in range(features.shape[1] - high + 1):
            for x in range(features.shape[2] - wide + 1):
                window = features[image, y : y + high, x : x + wide]
                found = (naive_score(weights, query, window), image, y, x)
                group = image if groups is None else groups[image]
                if group not in best or (-found[0], *found[1:]) < (
                    -best[group][0],
                    *best[group][1:],
                ):
                    best[group] = found
    return sorted(best.values(), key=lambda window: (-window[0], *window[1:]))[:k]
