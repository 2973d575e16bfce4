"""The harness itself: what it must notice."""

import numpy as np
import pytest

WIDGET = """
import anywidget, traitlets
class Counter(anywidget.AnyWidget):
    _esm = '''
    export default { render({ model, el }) {
      const button = document.createElement('button');
      button.textContent = 'count';
      button.addEventListener('click', () => {
        model.set('value', model.get('value') + 1); model.save_changes();
      });
      el.append(button);
    } };
    '''
    value = traitlets.Int(0).tag(sync=True)
counter = Counter()
counter
"""


def test_a_click_in_the_browser_changes_python(open_notebook):
    notebook = open_notebook("import numpy as np", WIDGET)
    notebook.page.get_by_role("button", name="count", exact=True).click()
    assert notebook.kernel.wait_until("counter.value") == 1
    np.testing.assert_array_equal(notebook.kernel.evaluate("np.arange(3)"), [0, 1, 2])
    with pytest.raises(RuntimeError, match="no-such-thing"):
        notebook.kernel.evaluate("open('no-such-thing')")
    notebook.check()
    notebook.page.evaluate("() => console.error('seen by the harness')")
    with pytest.raises(AssertionError, match="seen by the harness"):
        notebook.check()
    notebook.allowed.append("seen by the harness")


def test_an_offline_page_may_ask_no_server(offline, tmp_path):
    (tmp_path / "good.html").write_text("<title>good</title><p>text</p>")
    with offline(tmp_path / "good.html") as watched:
        assert watched.page.inner_text("p") == "text"
    (tmp_path / "bad.html").write_text("<script src='https://cdn.example/x.js'></script>")
    with pytest.raises(AssertionError, match=r"cdn\.example"), offline(tmp_path / "bad.html"):
        pass
