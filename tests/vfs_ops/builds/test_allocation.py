"""Freed memory that stays: what a process asks the system for, while and after it is kept."""

import ctypes
import os
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from vfs_ops.builds import allocation
from vfs_ops.builds.allocation import KEEPING, freed_memory_kept

BYTES = 48 << 20
PAGES = BYTES // resource.getpagesize()

needs_glibc = pytest.mark.skipif(allocation._glibc() is None, reason="needs glibc")


def pages_of_a_second_block() -> int:
    """Take and free a large block twice; count the pages asked for the second time."""
    b"x" * BYTES
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt  # others ask for some meanwhile
    b"x" * BYTES
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


@needs_glibc
def test_a_freed_block_is_taken_again_and_given_back_at_the_end():
    with freed_memory_kept():
        with freed_memory_kept():
            pass
        assert pages_of_a_second_block() < PAGES / 20  # the inner context ended nothing
    assert pages_of_a_second_block() > PAGES / 2


@needs_glibc
def test_it_is_given_back_after_an_error():
    with pytest.raises(ZeroDivisionError), freed_memory_kept():
        1 / 0  # noqa: B018
    assert pages_of_a_second_block() > PAGES / 2


@needs_glibc
@pytest.mark.parametrize("threshold", [2**40, 10**30])
def test_a_threshold_that_only_the_environment_can_say_does_no_harm(monkeypatch, threshold):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", str(threshold))
    given = []
    libc = SimpleNamespace(mallopt=lambda *pair: given.append(pair), malloc_trim=lambda pad: None)
    monkeypatch.setattr(allocation, "_glibc", lambda: libc)
    monkeypatch.setattr(allocation, "_SETTLED", False)
    with freed_memory_kept():
        pass
    assert len(given) == 5
    assert all(ctypes.c_int(value).value == value for _, value in given)


@needs_glibc
def test_what_the_environment_settled_stays():
    lines = [
        "from test_allocation import PAGES, freed_memory_kept, pages_of_a_second_block",
        "with freed_memory_kept(): pass",
        "raise SystemExit(pages_of_a_second_block() >= PAGES / 20)",
    ]
    environment = {**os.environ, **KEEPING, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["PYTHONPATH"] += os.pathsep + os.path.dirname(__file__)
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, env=environment)
