import json

from flows.console import _Lines, counted, size, write_json, write_table
from vfs_ops.progress import Progress


def test_sizes_are_readable():
    assert [size(n) for n in (0, 999, 1000, 1_568_000_000, 4e13)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.6 GB",
        "40.0 TB",
    ]


def test_tables_are_aligned(capsys):
    write_table([{"a": 1, "name": "x"}, {"a": 100, "name": "yy\x1b[0m"}], right=("a",))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["  a  name", "  1  x", "100  yy\N{REPLACEMENT CHARACTER}[0m"]


def test_counts_have_the_right_number():
    assert [counted(count, "problem") for count in (0, 1, 2)] == [
        "0 problems",
        "1 problem",
        "2 problems",
    ]


def test_json_is_escaped_where_it_could_control_a_terminal(capsys):
    value = {"\x1b[31m": ["\x9b\x7f\u202e", "\ud800", "é\U000e0001", 1.5, None]}
    write_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert "é" in out
    assert all(c.isprintable() or c == "\n" for c in out)


def test_log_lines_tell_rate_and_rest_of_what_lasts(capsys):
    now = [0.0]
    lines = _Lines(lambda: now[0])
    for done in range(0, 101, 10):
        lines(Progress("build", done, 100, "images"))
        now[0] += 1.0
    assert capsys.readouterr().err.splitlines() == [
        "build: 20 of 100 images, 10.0/s, 8 s left",
        "build: 70 of 100 images, 10.0/s, 3 s left",
        "build: 100 of 100 images, 10.0/s",
    ]


def test_what_is_done_at_once_has_no_log_lines(capsys):
    now = [0.0]
    lines = _Lines(lambda: now[0])
    for done in range(11):
        lines(Progress("search", done, 10, "shards"))
        now[0] += 0.1
    assert capsys.readouterr().err == ""


def test_what_was_done_before_is_not_in_the_rate(capsys):
    now = [0.0]
    lines = _Lines(lambda: now[0])
    lines(Progress("build", 90, 100, "images"))
    now[0] = 5.0
    lines(Progress("build", 95, 100, "images"))
    assert "1.0/s, 5 s left" in capsys.readouterr().err
