"""Groups of cells that resemble each other: non-negative matrix factorisation of feature maps.

After the factor groups of Olah and others, "The Building Blocks of Interpretability" (2018), and
of Fong and others, "Interactive Similarity Overlays" (2021).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vfs_ops.errors import QueryError

Negative = Literal["refuse", "clip", "split"]

MAX_STEPS: Final = 400
"""Steps of coordinate descent, at most."""


@dataclass(frozen=True, eq=False)
class Factors:
    """Feature maps as sums of a few groups, ``features ≈ strengths @ directions``."""

    strengths: tuple[NDArray[np.float32], ...]
    """Per image float32 (y, x, group), from 0 up. The strongest group comes first."""
    directions: NDArray[np.float32]
    """Float32 (group, channel), each of length one; (group, 2 · channel) where negative values
    were split off: first what is positive, then the size of what is negative."""
    explained: float
    """Which part of the sum of squares the groups give back, in [0, 1]."""
    steps: int
    """Steps that were taken."""
    converged: bool
    """False if `MAX_STEPS` were too few."""

    @property
    def count(self) -> int:
        """Number of groups."""
        return int(self.directions.shape[0])


def factorise(
    maps: Sequence[NDArray[np.floating]],
    groups: int,
    *,
    negative: Negative = "refuse",
    seed: int = 0,
) -> Factors:
    """Group the cells of several images by non-negative matrix factorisation.

    All cells of all images are the rows of one matrix; scikit-learn's `NMF` (coordinate descent,
    started from the singular vectors) writes it as strengths times directions. The same maps and
    seed give the same groups.

    Parameters
    ----------
    maps
        Feature maps of one layer, each (y, x, channel) with the same channels.
    groups
        How many, from 1 to the smaller one of cells and channels.
    negative
        What to do with negative values, which NMF does not take, as most layers without a ReLU
        give. ``refuse`` them; ``clip`` them to zero, which forgets them; or ``split`` each
        channel into two, what is positive and what is negative.
    seed
        Of the randomised singular vectors.

    Raises
    ------
    QueryError
        If there are negative values and `negative` is ``refuse``, if all values are zero or some
        are not finite, or if the number of groups is impossible.

    Examples
    --------
    >>> from vfs_ops.overlays.factors import factorise
    >>> found = factorise([np.eye(4).reshape(2, 2, 4)], 2)
    >>> found.strengths[0].shape, found.directions.shape
    ((2, 2, 2), (2, 4))
    """
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    cells = _cells(maps, negative)
    if isinstance(groups, bool) or not 1 <= groups <= min(cells.shape):
        raise QueryError(
            f"{groups} groups are asked for; expected 1 to {min(cells.shape)}, the smaller one of "
            f"{cells.shape[0]} cells and {cells.shape[1]} channels"
        )
    model = NMF(groups, init="nndsvda", random_state=seed, max_iter=MAX_STEPS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        strengths = model.fit_transform(cells)
    lengths = np.linalg.norm(model.components_, axis=1)
    directions = np.divide(
        model.components_,
        lengths[:, np.newaxis],
        out=np.zeros_like(model.components_),
        where=lengths[:, np.newaxis] > 0,
    )
    strengths = strengths * lengths
    left = np.linalg.norm(cells - strengths @ directions) / np.linalg.norm(cells)
    order = np.argsort(-strengths.sum(axis=0), kind="stable")
    return Factors(
        strengths=_per_image(strengths[:, order].astype(np.float32), maps),
        directions=directions[order].astype(np.float32),
        explained=max(0.0, 1 - float(left) ** 2),
        steps=int(model.n_iter_),
        converged=not any(issubclass(each.category, ConvergenceWarning) for each in caught),
    )


def _cells(maps: Sequence[NDArray[np.floating]], negative: Negative) -> NDArray[np.float64]:
    if negative not in get_args(Negative):
        raise QueryError(
            f"negative is {negative!r}; expected one of {', '.join(get_args(Negative))}"
        )
    shapes = [features.shape for features in maps]
    if not shapes or any(len(shape) != 3 or shape[2] != shapes[0][2] for shape in shapes):
        raise QueryError(
            f"feature maps of shapes {shapes} are given; expected one at least, each "
            "(y, x, channel), with the same channels"
        )
    cells: NDArray[np.float64] = np.concatenate(
        [np.reshape(each, (-1, each.shape[2])).astype(np.float64) for each in maps]
    )
    if not np.isfinite(cells).all():
        raise QueryError("the features hold NaN or infinite numbers; expected finite ones")
    if negative == "refuse" and cells.min() < 0:
        share = float((cells < 0).mean())
        raise QueryError(
            f"{share:.0%} of the features are negative, which this factorisation does not take; "
            "give negative='clip' to forget them, negative='split' to treat the negative half of "
            "each channel as a channel of its own, or choose a layer that ends in a ReLU"
        )
    if negative == "split":
        cells = np.concatenate([np.maximum(cells, 0), np.maximum(-cells, 0)], axis=1)
    cells = np.maximum(cells, 0)
    if not cells.any():
        raise QueryError("no feature is positive, so there is nothing to group; try 'split'")
    return cells


def _per_image(
    strengths: NDArray[np.float32], maps: Sequence[NDArray[np.floating]]
) -> tuple[NDArray[np.float32], ...]:
    stops = np.cumsum([each.shape[0] * each.shape[1] for each in maps])[:-1]
    parts = np.split(strengths, stops)
    return tuple(
        np.ascontiguousarray(part.reshape(*each.shape[:2], -1))
        for part, each in zip(parts, maps, strict=True)
    )
