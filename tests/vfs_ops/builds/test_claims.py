import json
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest

from vfs_ops.builds import claims
from vfs_ops.builds.claims import LIFETIME, Claim, active, held
from vfs_ops.errors import DamagedError, NewerFormatError, UnavailableError
from vfs_ops.store.workspace import Workspace

ONE, TWO = "a" * 64, "b" * 64


def test_a_claim_lasts_as_long_as_its_build(workspace):
    with held(workspace, [ONE, TWO]) as mine:
        assert mine.others == ()
        [claim] = active(workspace, ONE)
        assert (claim.cache, claim.builder, claim.pid) == (ONE, mine.builder, os.getpid())
        assert str(os.getpid()) in str(claim)
        assert len(active(workspace, TWO)) == 1
    assert active(workspace, ONE) == active(workspace, TWO) == []
    assert workspace.walk() == []


def test_builders_see_each_other_the_oldest_first(workspace):
    with held(workspace, [ONE]) as first, held(workspace, [ONE]) as second:
        assert [claim.builder for claim in second.others] == [first.builder]
        with held(workspace, [TWO, ONE]) as third:
            assert [claim.builder for claim in third.others] == [first.builder, second.builder]


def test_the_claim_of_a_dead_builder_expires_and_is_removed(workspace):
    began = datetime.now(UTC) - timedelta(hours=1)
    dead = Claim(ONE, "0" * 16, "node", 1, began, began + LIFETIME)
    workspace.create(f"claims/{ONE}/{dead.builder}.json", dead.encode())
    assert active(workspace, ONE) == []
    assert active(workspace, ONE, now=began) == [dead]
    with held(workspace, [ONE]) as mine:
        assert mine.others == ()
    assert workspace.walk() == []


def test_a_claim_is_renewed_while_the_build_runs(workspace, monkeypatch):
    renewed, replace = threading.Event(), Workspace.replace

    def count(self, key, data):
        replace(self, key, data)
        if json.loads(data)["expires"] > first.isoformat():
            renewed.set()

    first = datetime.max.replace(tzinfo=UTC)
    monkeypatch.setattr(Workspace, "replace", count)
    with held(workspace, [ONE], renewal=0.01):
        first = active(workspace, ONE)[0].expires
        assert renewed.wait(60)
        assert active(workspace, ONE)[0].expires > first


def test_a_storage_that_fails_for_a_while_ends_no_build(workspace, monkeypatch):
    tried, replace = threading.Event(), Workspace.replace

    def fails(self, key, data):
        tried.set()
        raise UnavailableError("no answer")

    with held(workspace, [ONE], renewal=0.01):
        monkeypatch.setattr(Workspace, "replace", fails)
        assert tried.wait(60)
        tried.clear()
        assert tried.wait(60)  # and it tries again
        monkeypatch.setattr(Workspace, "replace", replace)
    assert active(workspace, ONE) == []


@pytest.mark.parametrize(
    "change",
    [
        {"cache": TWO},
        {"builder": "1" * 16},
        {"pid": -1},
        {"pid": "1"},
        {"host": None},
        {"since": "yesterday"},
        {"expires": "2026-01-01T00:00:00"},
    ],
)
def test_a_claim_that_cannot_be_read_is_named(workspace, change):
    now = datetime.now(UTC)
    document = json.loads(Claim(ONE, "0" * 16, "node", 1, now, now + LIFETIME).encode())
    key = f"claims/{ONE}/{'0' * 16}.json"
    workspace.replace(key, json.dumps({**document, **change}).encode())
    with pytest.raises(DamagedError, match=key):
        active(workspace, ONE)
    workspace.replace(key, json.dumps({**document, "format": 2}).encode())
    with pytest.raises(NewerFormatError):
        active(workspace, ONE)


def test_a_host_name_is_text(workspace):
    now = datetime.now(UTC)
    assert "\x1b" not in str(Claim(ONE, "0" * 16, "\x1b[2J" * 99, 1, now, now))
    assert LIFETIME.total_seconds() >= claims.RENEWAL_SECONDS * 3
