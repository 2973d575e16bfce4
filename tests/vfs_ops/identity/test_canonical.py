"""Canonical JSON, ids and names."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs_ops.errors import InvalidNameError, NewerFormatError, SpecError
from vfs_ops.identity.canonical import (
    FORMATS,
    canonical_json,
    check_format,
    check_name,
    document_id,
    is_id,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
documents = st.dictionaries(text, values, max_size=5)


def shuffled(value: object) -> object:
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return tuple(map(shuffled, value)) if isinstance(value, list) else value


@given(documents)
def test_equal_documents_give_equal_bytes_that_read_back(document: dict) -> None:
    data = canonical_json(document)
    assert json.loads(data) == document
    assert canonical_json(shuffled(document)) == data  # type: ignore[arg-type]
    assert canonical_json(json.loads(data)) == data


def test_bytes_and_ids_are_pinned() -> None:
    document = {"z": [1, 1.0, -0.0, 1e-7, 1e22, True, None], "ä": "é\n\u2028</", "a": {}}
    expected = '{"a":{},"z":[1,1.0,0.0,1e-07,1e+22,true,null],"ä":"é\\n\u2028</"}'
    assert canonical_json(document) == expected.encode()
    assert document_id({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert (
        document_id(document) == "ed84e7949d7e577e34215cc04066bc55a176ff20feb88f2d6c02066c636cbabb"
    )


@pytest.mark.parametrize(
    "document",
    [
        {"a": math.nan},
        {"a": [math.inf]},
        {"a": b"bytes"},
        {"a": {1: 2}},
        {"a": {1, 2}},
        {"a": "\ud800"},
        {"\ud800": 1},
        {"a": object()},
    ],
)
def test_what_is_no_document_is_refused(document: dict) -> None:
    with pytest.raises(SpecError):
        canonical_json(document)


def test_integers_and_floats_differ() -> None:
    assert document_id({"a": 1}) != document_id({"a": 1.0})
    assert document_id({"a": True}) != document_id({"a": 1})


@given(st.text(max_size=130) | st.from_regex(r"[a-z0-9][a-z0-9._-]{0,127}", fullmatch=True))
def test_names_have_the_form_of_the_design(name: str) -> None:
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789._-"
    valid = 1 <= len(name) <= 128 and all(c in allowed for c in name) and name[0] not in "._-"
    if valid:
        assert check_name(name) == name
    else:
        with pytest.raises(InvalidNameError):
            check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "A",
        "ä",
        "a\n",
        "a\x00",
        ".a",
        "-a",
        "a b",
        "x" * 10_000,
    ],
)
def test_names_that_could_do_harm_are_refused_in_few_words(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_name(name)
    assert len(str(caught.value)) < 300


def test_ids_are_64_hexadecimal_digits() -> None:
    assert is_id("0123456789abcdef" * 4)
    for wrong in ("", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", None, 5):
        assert not is_id(wrong)


@pytest.mark.parametrize("version", [FORMATS["plan"] + 1, 0, -1, "1", 1.0, True, None])
def test_other_formats_are_refused(version: object) -> None:
    with pytest.raises(NewerFormatError, match="upgrade"):
        check_format({"kind": "plan", "format": version}, "plan", "a thing")
    with pytest.raises(NewerFormatError):
        check_format({"kind": "plan"}, "plan", "a thing")
    assert check_format({"kind": "plan", "format": 1}, "plan", "a thing") == 1
