"""Metadata filters, against a naive evaluation in Python."""

import math
import operator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs_ops.datasets.predicates import columns_of, evaluate
from vfs_ops.errors import PredicateError

NAIVE = {
    "==": lambda x, v: x is not None and x == v,
    "!=": lambda x, v: x is None or x != v,
    "in": lambda x, v: x is not None and any(x == item for item in v),
    "not in": lambda x, v: x is None or not any(x == item for item in v),
    "contains": lambda x, v: x is not None and any(item == v for item in x),
    **{
        name: lambda x, v, compare=compare: x is not None and compare(x, v)
        for name, compare in {
            "<": operator.lt,
            "<=": operator.le,
            ">": operator.gt,
            ">=": operator.ge,
        }.items()
    },
}
EDGES = [0, 1, -1, 2**63 - 1, -(2**63), 2**53, 2**53 + 1]
times = st.datetimes(datetime(1600, 1, 1), datetime(2400, 1, 1))
KINDS = {
    "int64": (pa.int64(), st.sampled_from(EDGES) | st.integers(-5, 5)),
    "uint8": (pa.uint8(), st.integers(0, 255)),
    "uint64": (pa.uint64(), st.sampled_from([0, 1, 2**64 - 1])),
    "float64": (pa.float64(), st.floats() | st.integers(-3, 3).map(float)),
    "text": (pa.string(), st.text(max_size=3)),
    "time": (pa.timestamp("us"), times),
    "second": (pa.timestamp("s"), times.map(lambda t: t.replace(microsecond=0))),
}
numbers = (
    st.sampled_from([*EDGES, 2**70, -(2**70), math.inf, -math.inf, 0.5, -0.5, 255.5, 2.0**63])
    | st.integers(-6, 6)
    | st.floats(-6, 6)
)
VALUES = {"text": st.text(max_size=3), "time": times, "second": times}


@given(st.data())
def test_conditions_agree_with_python(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(KINDS)))
    kind, values = KINDS[name]
    column = data.draw(st.lists(st.none() | values, max_size=8))
    op = data.draw(st.sampled_from([op for op in NAIVE if op != "contains"]))
    value = VALUES.get(name, numbers)
    if name == "float64":  # integers that no double holds are compared as the nearest one
        value = value.filter(lambda v: isinstance(v, float) or float(v) == v)
    value = data.draw(st.lists(value, max_size=4) if op in ("in", "not in") else value)
    found = evaluate(pa.table({"x": pa.array(column, kind)}), [("x", op, value)])
    assert found.dtype == np.bool_
    assert found.tolist() == [bool(NAIVE[op](x, value)) for x in column]


@given(
    st.lists(st.none() | st.lists(st.none() | st.integers(0, 3), max_size=4), max_size=6),
    st.integers(0, 3),
    st.integers(1, 3),
)
def test_contains_agrees_with_python(column: list, value: int, chunk: int) -> None:
    chunks = [column[start : start + chunk] for start in range(0, len(column), chunk)]
    kind = pa.list_(pa.int32())
    table = pa.table({"x": pa.chunked_array([pa.array(c, kind) for c in chunks], kind)})
    found = evaluate(table, [("x", "contains", value)])
    assert found.tolist() == [NAIVE["contains"](x, value) for x in column]


small = st.tuples(
    st.sampled_from("ab"), st.sampled_from(["==", "!=", "<", ">="]), st.integers(0, 2)
)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(0, 2)), max_size=6),
    st.lists(st.lists(small, max_size=3), min_size=1, max_size=3),
)
def test_lists_are_joined_by_or_and_their_conditions_by_and(rows: list, groups: list) -> None:
    table = pa.table({n: pa.array([r[i] for r in rows], pa.int64()) for i, n in enumerate("ab")})
    expected = [
        any(all(NAIVE[op](row["ab".index(name)], value) for name, op, value in g) for g in groups)
        for row in rows
    ]
    assert evaluate(table, groups).tolist() == expected
    if len(groups) == 1:
        assert evaluate(table, groups[0]).tolist() == expected
    as_json = [[list(condition) for condition in group] for group in groups]
    assert evaluate(table, as_json).tolist() == expected


def test_no_filters_match_all() -> None:
    table = pa.table({"a": [1, 2]})
    for filters in (None, [], ()):
        assert evaluate(table, filters).tolist() == [True, True]


def test_booleans_and_half_floats() -> None:
    table = pa.table({"b": [True, False, None], "h": pa.array(np.array([0.5, 1, 2], np.float16))})
    assert evaluate(table, [("b", "==", True)]).tolist() == [True, False, False]
    assert evaluate(table, [("h", ">", 0.5)]).tolist() == [False, True, True]


def test_times_may_be_dates_or_iso_text_and_have_zones() -> None:
    at = datetime(2024, 5, 1, 12, tzinfo=UTC)
    table = pa.table(
        {
            "zoned": pa.array([at, at + timedelta(days=1), None], pa.timestamp("ns", "UTC")),
            "plain": pa.array([date(2024, 5, 1), date(2024, 5, 2), None]).cast(pa.timestamp("s")),
        }
    )
    assert evaluate(table, [("zoned", "==", "2024-05-01T14:00:00+02:00")]).tolist() == [1, 0, 0]
    assert evaluate(table, [("plain", ">", date(2024, 5, 1))]).tolist() == [0, 1, 0]
    assert evaluate(table, [("plain", "<=", "2024-05-01")]).tolist() == [1, 0, 0]
    for column, value in (("zoned", "2024-05-01"), ("plain", at), ("plain", "soon"), ("plain", 5)):
        with pytest.raises(PredicateError):
            evaluate(table, [(column, "==", value)])


TABLE = pa.table(
    {"label": ["a"], "year": [1], "flag": [True], "boxes": [[[1.0]]], "tags": [["x"]], "f": [1.0]}
)


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ([("lable", "==", "a")], "did you mean label"),
        ([("label", "=", "a")], "no operator '='"),
        ([("label", "==", 1)], "expected a value of the column's type"),
        ([("label", "==", None)], "nulls cannot be asked for"),
        ([("year", "==", "1")], "int64"),
        ([("year", "==", True)], "bool"),
        ([("year", "<", math.nan)], "float"),
        ([("f", "<", 10**400)], "too large"),
        ([("flag", "<", True)], "does not order"),
        ([("flag", "==", 1)], "bool"),
        ([("year", "in", 1)], "takes a list"),
        ([("label", "in", "abc")], "takes a list"),
        ([("label", "contains", "a")], "flat lists"),
        ([("boxes", "contains", 1.0)], "flat lists"),
        ([("tags", "==", "x")], "use 'contains'"),
        ([("tags", "contains", 1)], "string"),
        ("label == 'a'", "no filter"),
        ([("label", "==")], "no filter"),
        ([[("label", "==", "a")], ("year", "==", 1)], "no filter"),
        ([1], "no filter"),
        ({"label": "a"}, "no filter"),
        ([("label", ["=="], "a")], "no operator"),
    ],
)
def test_what_does_not_fit_is_refused(filters: object, said: str) -> None:
    with pytest.raises(PredicateError, match=said):
        evaluate(TABLE, filters)  # type: ignore[arg-type]


def test_text_is_never_evaluated() -> None:
    value = "__import__('os').system('false')"
    assert evaluate(TABLE, [("label", "==", value)]).tolist() == [False]
    with pytest.raises(PredicateError):
        evaluate(TABLE, [(value, "==", "a")])


def test_columns_of_names_each_column_once() -> None:
    filters = [[("year", "==", 1), ("label", "==", "a")], [("year", ">", 2)]]
    assert columns_of(filters, TABLE.column_names) == ["year", "label"]
    with pytest.raises(PredicateError, match="no column 'nope'"):
        columns_of([("nope", "==", 1)], TABLE.column_names)


def test_values_may_come_from_numpy_and_pandas() -> None:
    table = pa.table({"year": [2019, 2021, 2023], "name": ["a", "b", "c"]})
    for value in (np.int64(2020), np.float32(2020), np.array(2020)):
        assert evaluate(table, [("year", ">", value)]).tolist() == [False, True, True]
    for values in (np.array([2019, 2023]), pd.Series([2019, 2023])):
        assert evaluate(table, [("year", "in", values)]).tolist() == [True, False, True]
    assert evaluate(table, [("name", "==", np.str_("b"))]).tolist() == [False, True, False]
    with pytest.raises(PredicateError):
        evaluate(table, [("year", "==", np.array([2019, 2023]))])
