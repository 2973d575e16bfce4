"""Names and labels that others chose stay text on Prefect's pages."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markdown import Markdown

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "a | b |\n| - | - |",
    "`code` ``more``",
    "line\nbreak\n\n# heading",
    "[here](javascript:alert(1))",
    "](javascript:alert(1))",
    "![](https://elsewhere.example/x.png)",
    "https://elsewhere.example www.elsewhere.example me@elsewhere.example",
    "*star* _score_ ~~gone~~ $x$",
    "1. one",
    "1.",
    "12)",
    "- dash",
    "-",
    "&lt;b&gt; &amp;",
    "$&",
    "    four spaces",
    "\u202egnp.exe",
]


@pytest.fixture
def markup():
    """Import what imports Prefect."""
    from flows.tracked import markup

    return markup


def tokens(markdown):
    """Return the kinds of all that Markdown holds, and its text."""
    parsed = Markdown(markdown).parsed
    inside = [child for token in parsed for child in token.children or ()]
    return [token.type for token in parsed], {child.type for child in inside}, inside


def check(markup, text):
    blocks, kinds, inside = tokens(markup.escaped(text))
    assert blocks in ([], ["paragraph_open", "inline", "paragraph_close"])
    assert kinds <= {"text"}
    shown = "".join(child.content for child in inside).replace("\u2060", "")
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    assert shown == printable.replace("\u2060", "").strip(" ")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_is_shown_as_it_is(markup, text):
    check(markup, text)


def test_no_address_becomes_a_link_by_itself(markup):
    """As Prefect's pages, and GitHub, make links of what looks like one."""
    assert markup.escaped("www.a.example WWW.b.example") == r"www\.a.example WWW\.b.example"
    assert markup.escaped("https://a.example") == r"https\://a.example"
    assert markup.escaped("me@a.example") == r"me\@a.example"


@given(st.text(st.sampled_from("\\`*_[](){}<>!|~:@&$#-+=1.)\n\t abh/\"'"), max_size=40))
def test_any_text_is_shown_as_it_is(text):
    from flows.tracked import markup

    check(markup, text)


@pytest.mark.parametrize("text", ["```\n<b>", "\n# heading", "plain"])
def test_lines_to_copy_stay_lines(markup, text):
    parsed = Markdown(markup.code_markdown("<b>", text)).parsed
    kinds = [token.type for token in parsed]
    assert kinds == ["paragraph_open", "inline", "paragraph_close", "fence"]
    assert parsed[-1].content == f"{text}\n"


def test_names_that_differ_have_keys_that_differ(markup):
    texts = ["plan-a.b", "plan-a-b", "plan-a_b", "plan-A-b", "plan-a--b", "plan-é", "plan-ö"]
    keys = [markup.artifact_key(text) for text in texts]
    assert len(set(keys)) == len(keys)
    assert keys[1] == "plan-a-b"
    assert all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", key) for key in keys)


def test_a_picture_has_no_address(markup):
    blocks, kinds, inside = tokens(markup.picture_markdown("[a](http://b)", b"png"))
    assert blocks.count("paragraph_open") == 2
    assert kinds == {"text", "image"}
    [image] = [child for child in inside if child.type == "image"]
    assert image.attrs["src"] == "data:image/png;base64,cG5n"
