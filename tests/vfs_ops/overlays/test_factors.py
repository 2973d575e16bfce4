import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfs_ops.errors import QueryError
from vfs_ops.overlays import factors
from vfs_ops.overlays.factors import factorise


def made_of_groups(seed=0, negative=False):
    """Two maps whose cells are sums of three known directions."""
    random = np.random.default_rng(seed)
    directions = np.kron(np.eye(3), np.ones(4))
    if negative:
        directions = directions * np.tile([1, -1], 6)
    strengths = [random.uniform(0, 1, (4, 5, 3)) ** 3, random.uniform(0, 1, (3, 2, 3)) ** 3]
    return [(each @ directions).astype(np.float32) for each in strengths], strengths


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100))
def test_groups_that_are_there_are_found(seed):
    maps, truth = made_of_groups(seed)
    found = factorise(maps, 3)
    assert found.explained > 0.999
    assert [each.shape for each in found.strengths] == [(4, 5, 3), (3, 2, 3)]
    flat = np.concatenate([each.reshape(-1, 3) for each in found.strengths])
    known = np.concatenate([each.reshape(-1, 3) for each in truth])
    match = np.corrcoef(flat.T, known.T)[:3, 3:]
    assert (match.max(axis=1) > 0.99).all()
    assert sorted(match.argmax(axis=1)) == [0, 1, 2]
    totals = flat.sum(axis=0)
    assert (np.diff(totals) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(found.directions, axis=1), 1, rtol=1e-5)


def test_the_same_seed_gives_the_same_bits():
    maps, _ = made_of_groups()
    one, other = factorise(maps, 2, seed=7), factorise(maps, 2, seed=7)
    for a, b in zip(one.strengths, other.strengths, strict=True):
        assert a.tobytes() == b.tobytes()


def test_negative_values_need_a_word():
    maps, _ = made_of_groups(negative=True)
    with pytest.raises(QueryError, match=r"50% .* negative='clip'.*negative='split'"):
        factorise(maps, 3)
    assert factorise(maps, 3, negative="split").explained > 0.999
    assert factorise(maps, 3, negative="split").directions.shape == (3, 24)
    clipped = factorise(maps, 3, negative="clip")
    assert clipped.directions.shape == (3, 12)
    assert not clipped.directions[:, 1::2].any()


def test_too_few_steps_are_told_without_a_warning(monkeypatch):
    monkeypatch.setattr(factors, "MAX_STEPS", 1)
    found = factorise([np.random.default_rng(0).uniform(size=(9, 9, 20))], 5)
    assert not found.converged
    assert found.steps == 1


@pytest.mark.parametrize(
    ("maps", "groups", "message"),
    [
        ([np.ones((2, 2, 3))], 4, "expected 1 to 3"),
        ([np.ones((2, 2, 3))], 0, "expected 1 to 3"),
        ([np.zeros((2, 2, 3))], 1, "nothing to group"),
        ([np.full((2, 2, 3), np.nan)], 1, "not finite|infinite"),
        ([np.ones((2, 2, 3)), np.ones((2, 2, 4))], 1, "same channels"),
        ([], 1, "one at least"),
    ],
)
def test_impossible_requests_are_refused(maps, groups, message):
    with pytest.raises(QueryError, match=message):
        factorise(maps, groups)


def test_an_unknown_word_is_refused():
    with pytest.raises(QueryError, match="refuse, clip, split"):
        factorise([np.ones((2, 2, 3))], 1, negative="drop")
