"""What tests of the kernel share."""

from __future__ import annotations

import pytest

from vfs_ops.kernel import float_pass, scoring


@pytest.fixture
def one_pass(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the form of a test's blocks choose the pass, not what is faster."""
    monkeypatch.setattr(scoring, "_MANY_TAPS", -1)
    if request.node.name.partition("[")[2].startswith("torch"):
        monkeypatch.setattr(float_pass, "loop_registers", lambda *_: None)
