import threading

from flows.patience import doing, heard, patience


def said(lines: list[str], count: int, came: threading.Event) -> None:
    """Wait until so many lines were said."""
    while len(lines) < count:
        came.clear()
        if len(lines) < count:
            assert came.wait(20), lines


def test_what_lasts_is_said_once_and_the_innermost_of_it():
    lines: list[str] = []
    came = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        came.set()

    with patience(say, seconds=0.01):
        with doing("plan"):
            with doing("loading a model"):
                said(lines, 1, came)
            said(lines, 2, came)
        with doing("search"):
            said(lines, 3, came)
    assert lines == ["loading a model …", "plan …", "search …"]


def test_what_is_over_soon_is_not_said():
    lines: list[str] = []
    with patience(lines.append, seconds=3600), doing("search"):
        heard()
    assert lines == []
    with doing("search"):  # and where nobody waits
        pass
