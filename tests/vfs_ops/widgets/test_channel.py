"""The browser's end of a widget's line, on a page of its own with a clock that the test moves."""

import pytest
from jupyter_lab import ROOT

MODULE = (ROOT / "vfs_ops" / "widgets" / "static" / "channel.js").read_text()
PAGE = f"""<!doctype html><meta charset="utf-8"><script type="module">
{MODULE}
const listeners = {{}};
window.sent = [];
window.states = [];
window.ended = [];
const model = {{
  on: (name, listener) => (listeners[name] = listener),
  off: () => {{}},
  send: (message) => window.sent.push(message),
}};
window.channel = new Channel(model);
window.channel.onState = (state) => window.states.push(state);
window.hear = (message) => listeners["msg:custom"](message, []);
window.cut = () => listeners["comm_live_update"]();
window.ask = (name) => {{
  const end = (how) => () => window.ended.push(how);
  window.channel.request(name).then(end("answer"), end("error"));
}};
</script>"""


@pytest.fixture
def page(offline, tmp_path):
    (tmp_path / "channel.html").write_text(PAGE)
    with offline(tmp_path / "channel.html") as watched:
        watched.page.clock.install(time="2024-01-01")
        watched.page.wait_for_function("() => window.channel")
        watched.page.clock.pause_at("2024-01-02")  # else it goes on by itself beside our steps
        yield watched.page


def names(page):
    return page.evaluate("() => window.sent.map((message) => message.name)")


def test_a_long_answer_is_no_silence_as_long_as_the_kernel_hears(page):
    page.evaluate("() => ask('search')")
    for number in range(1, 4):
        page.clock.run_for(2100)
        assert names(page) == ["search", *["ping"] * number]
        page.evaluate("() => hear({ kind: 'answer', id: sent.at(-1).id, value: {} })")
    assert set(page.evaluate("() => states")) == {"ok"}
    page.evaluate("() => hear({ kind: 'answer', id: sent[0].id, value: {} })")
    page.clock.run_for(10_000)
    assert len(names(page)) == 4  # nobody waits: nothing is asked
    assert page.evaluate("() => ended") == ["answer"]


def test_a_kernel_that_does_not_hear_is_said_once_and_until_it_does(page):
    page.evaluate("() => ask('image')")
    page.clock.run_for(3900)
    assert page.evaluate("() => states") == []
    page.clock.run_for(20_000)
    assert page.evaluate("() => states") == ["silent"]
    page.evaluate("() => hear({ kind: 'answer', id: sent[0].id, value: {} })")
    assert page.evaluate("() => states") == ["silent", "ok"]


def test_a_cut_line_gives_up_what_was_asked_and_says_so_if_nobody_is_there(page):
    page.evaluate("() => ask('search')")
    page.evaluate("() => cut()")
    page.wait_for_function("() => ended.length")
    assert page.evaluate("() => ended") == ["error"]
    page.clock.run_for(2100)
    assert page.evaluate("() => states") == ["gone"]
