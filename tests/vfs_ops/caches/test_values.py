import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vfs_ops.caches.values import MAX_COSINE_COST, SMALLEST_SQUARED_NORM, squared_norms, to_stored
from vfs_ops.errors import FeatureRangeError


def random_maps(images=70, scale=1.0):
    return (np.random.default_rng(0).normal(size=(images, 2, 3, 8)) * scale).astype(np.float32)


@given(
    hnp.arrays(
        np.float16,
        st.tuples(*[st.integers(1, 4)] * 4),
        elements=st.floats(-1000, 1000, width=16),
    )
)
def test_squared_norms_are_the_rounded_exact_sums(stored):
    exact = (stored.astype(np.float64) ** 2).sum(axis=-1)
    np.testing.assert_array_max_ulp(squared_norms(stored), exact.astype(np.float32), maxulp=1)


def test_float16_keeps_directions_and_says_all_are_finite():
    maps = random_maps()
    stored, finite = to_stored(maps, "float16")
    assert stored.dtype == np.float16
    assert finite.all()
    a, b = maps.astype(np.float64), stored.astype(np.float64)
    cosine = (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    assert cosine.min() > 1 - MAX_COSINE_COST


def test_zero_cells_stay_zero_and_cost_nothing():
    maps = random_maps()
    maps[3, 1] = 0
    stored, finite = to_stored(maps, "float16")
    assert finite.all()
    assert not stored[3, 1].any()


def test_overflow_names_both_numbers_and_float32():
    maps = random_maps()
    maps[69, 0, 0, 0] = 1e5
    with pytest.raises(FeatureRangeError, match=r"100000.*65504.*float32"):
        to_stored(maps, "float16")


def test_features_too_small_for_float16_are_refused():
    with pytest.raises(FeatureRangeError, match="float32"):
        to_stored(random_maps(scale=1e-7), "float16")
    stored, _ = to_stored(random_maps(scale=1e-7), "float32")
    np.testing.assert_array_equal(stored, random_maps(scale=1e-7))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_images_that_are_not_finite_become_zeros_and_are_named(bad, dtype):
    maps = random_maps()
    maps[65, 1, 2, 3] = bad
    stored, finite = to_stored(maps, dtype)
    assert np.flatnonzero(~finite).tolist() == [65]
    assert not stored[65].any()
    assert stored[64].any()


def test_cells_too_short_for_float32_products_are_stored_as_zeros():
    maps = random_maps()
    maps[0, 0, 0] = 1e-20
    maps[0, 0, 1] = 1e-10
    stored, _ = to_stored(maps, "float32")
    assert not stored[0, 0, 0].any()
    assert stored[0, 0, 1].any()
    norms = squared_norms(stored)
    assert ((norms == 0) | (norms >= SMALLEST_SQUARED_NORM)).all()
