"""Whatever JSON an entry holds, it is listed, and cannot control the terminal."""

import contextlib
import io
import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import catalog
from flows.cli import main
from vfs_ops.store.workspace import Workspace

KNOWN = ["images", "unreadable", "grid", "channels", "bytes", "model", "layer", "dataset"]
text = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    ["\x1b[31m", "\x9b2J", "\u202e", "\ud800", "a\nb\r\tc", "\x00", "x" * 500]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
facts = st.dictionaries(st.sampled_from(KNOWN) | text, values, max_size=8)


@pytest.fixture(scope="module")
def place(_built_photos, tmp_path_factory):
    """Return a workspace of this module's own, and the records of a dataset and of a cache."""
    folder = tmp_path_factory.mktemp("untrusted") / "workspace"
    shutil.copytree(_built_photos / "vfs-workspace", folder)
    workspace = Workspace.at(str(folder))
    entries = {entry.type: entry.document() for entry in catalog.list_entries(workspace)}
    for entry in catalog.list_entries(workspace):
        if entry.document() != entries[entry.type]:
            workspace.delete(entry.key)  # one of each is enough
    return workspace, entries


def run(workspace, *arguments):
    """Run the command line with an output that, unlike a capture, must be encoded."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main(["-w", workspace.url, *arguments])
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    assert all(c.isprintable() or c == "\n" for c in "".join(texts)), arguments
    return ended.value.code or 0, *texts


@settings(max_examples=60, deadline=None)
@given(facts=facts, said=text, more=st.dictionaries(text, values, max_size=2))
def test_facts_of_any_kind_are_shown_without_harm(place, facts, said, more):
    workspace, originals = place
    for kind, original in originals.items():
        about = original["about"]
        changed = {**original, **more, "name": f"odd-{kind}"}
        changed["facts"] = {**original["facts"], **facts}
        changed["about"] = {**about, "owner": said, "citation": said, **more}
        key = f"catalog/{kind}s/odd-{kind}/00001.json"
        workspace.replace(key, json.dumps(changed).encode())
    code, _, err = run(workspace, "ls")
    assert code == 0
    left_out = [kind for kind in originals if f"left out: catalog/{kind}s/" in err]
    assert err.count("left out: ") == len(left_out)
    code, out, _ = run(workspace, "ls", "--json")
    assert code == 0
    assert len(json.loads(out)) == 2 * len(originals) - len(left_out)
    for kind in originals:
        code, out, err = run(workspace, "show", f"odd-{kind}")
        assert code == (5 if kind in left_out else 0), err
        assert run(workspace, "show", f"odd-{kind}", "--json")[0] == code
