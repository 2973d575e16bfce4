"""The lines that open a cache are Python, whatever the place is called."""

import ast

from hypothesis import example, given
from hypothesis import strategies as st

from catalog.opening import opening_lines


@given(st.text(st.characters()))
@example("/data/\N{GRINNING FACE}")
@example('a\'b"c\\d\\"')
@example("\u202egnp.exe\n\ud83d")
def test_the_lines_name_the_place_whatever_it_is_called(url):
    lines = opening_lines("photos@2", url)
    assert lines.count("\n") == 2
    assert all(letter.isprintable() for letter in lines if letter != "\n")
    _, assigned, opened = ast.parse(lines).body
    assert ast.literal_eval(assigned.value) == url
    assert ast.literal_eval(opened.value.args[0]) == "photos@2"


def test_the_lines_are_as_people_write_them():
    assert '"/data/\N{GRINNING FACE}\'s"' in opening_lines("x", "/data/\N{GRINNING FACE}'s")
