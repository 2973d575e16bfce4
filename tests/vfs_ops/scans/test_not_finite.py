"""Features that are not finite, which only a foreign or forged cache can have, are damage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from made_caches import made_cache, made_query
from numpy.typing import NDArray

from vfs_ops.caches.cache import Cache
from vfs_ops.caches.layout import sha256
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.shard_sources import ShardArrays, ShardSource, decode_norms
from vfs_ops.errors import DamagedError
from vfs_ops.kernel import blocks
from vfs_ops.kernel.compact_pass import CompactErrors
from vfs_ops.scans.null_distribution import null_scores
from vfs_ops.scans.score_arrays import score_images, score_map
from vfs_ops.scans.search import search
from vfs_ops.store.workspace import Workspace


@dataclass(frozen=True)
class Forged:
    """A source in which one value of row 5 of shard 1, which is image 13, is another."""

    source: ShardSource
    value: float

    def read(self, receipt: Receipt, *others: Any) -> ShardArrays:
        arrays = self.source.read(receipt, *others)
        features = arrays.features.copy()
        if receipt.shard == 1:
            features[5, 1, 1, 3] = self.value
        return replace(arrays, features=features)

    def read_features(self, receipt: Receipt, wanted: NDArray[np.intp]) -> NDArray[np.floating]:
        return self.read(receipt, None, None).features[wanted]


@pytest.fixture
def made() -> Cache:
    maps = np.random.default_rng(1).standard_normal((40, 3, 3, 8)).astype(np.float16)
    return made_cache(Workspace.in_memory(), maps, images_per_shard=8, invalid=[9])


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("form", ["stored", "in memory", "compact"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_that_has_no_score_does_not_vanish(
    made: Cache, monkeypatch: pytest.MonkeyPatch, value: float, form: str, size: int
) -> None:
    under = np.abs(np.random.default_rng(2).standard_normal((size, size, 8)))
    query = made_query(made, np.ones((size, size)), np.copysign(under, value))
    forged = replace(made, source=Forged(made.source, value))
    if form != "stored":
        monkeypatch.setattr(blocks, "compact_pays", lambda channels: form == "compact")
        monkeypatch.setattr("vfs_ops.kernel.scoring._compact_is_faster", lambda *given: True)
        forged = forged.load(device="cpu")
    for find in (search, score_images):
        with pytest.raises(DamagedError, match=r"the stored features of .* are not finite"):
            find(forged, query)  # type: ignore[operator]
        found = find(forged, query, where=[("uri", "!=", "000013.jpg")])  # type: ignore[operator]
        assert 13 not in np.asarray(found.image)
    with pytest.raises(DamagedError, match="not finite"):
        score_map(forged, query, [2, 13])
    with pytest.raises(DamagedError, match="not finite"):
        null_scores(forged, query, samples=1000)


def test_norms_that_are_not_finite_are_damage_unless_no_image_has_them(made: Cache) -> None:
    receipt = made.receipts[1]
    norms = made.read_norms(1).copy()
    norms[1] = np.inf
    for row, damaged in ((None, False), (2, True)):
        if row is not None:
            norms[row, 0, 0] = np.nan
        data = norms.reshape(-1).view(np.uint8)
        stored = replace(receipt, sq_norm=sha256(data.data))
        if damaged:
            with pytest.raises(DamagedError, match="sq_norm is not finite"):
                decode_norms(data, stored, made.plan)
        else:
            np.testing.assert_array_equal(decode_norms(data, stored, made.plan), norms)


def test_the_bound_of_what_is_no_number_is_none() -> None:
    errors, none = CompactErrors(np.full(1, 0.1), np.zeros(1)), np.full((1, 1), np.nan)
    assert np.isnan(errors.bounds(np.array([0]), none, none.astype(np.float32))).all()
