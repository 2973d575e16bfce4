from flows.console import _Lines, size, write_table
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


def test_log_lines_tell_rate_and_rest_now_and_then(capsys):
    now = [0.0]
    lines = _Lines(lambda: now[0])
    for done in range(0, 101, 10):
        lines(Progress("build", done, 100, "images"))
        now[0] += 1.0
    assert capsys.readouterr().err.splitlines() == [
        "build: 0 of 100 images",
        "build: 50 of 100 images, 10.0/s, 5 s left",
        "build: 100 of 100 images, 10.0/s",
    ]


def test_what_was_done_before_is_not_in_the_rate(capsys):
    now = [0.0]
    lines = _Lines(lambda: now[0])
    lines(Progress("build", 90, 100, "images"))
    now[0] = 5.0
    lines(Progress("build", 95, 100, "images"))
    assert "1.0/s, 5 s left" in capsys.readouterr().err
