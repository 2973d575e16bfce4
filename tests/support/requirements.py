"""Programs that tests need and pip does not install."""

import os
import shutil

import pytest

_PROGRAMS = {
    "ceph": ("radosgw", "ceph-mon", "ceph-osd", "radosgw-admin"),
    "chromium": ("chromium",),
}


def available(name):
    """Tell whether a program is there; fail where it must be and is not.

    ``VFS_TESTS_REQUIRE`` names those that must be, separated by blanks.
    """
    missing = [program for program in _PROGRAMS[name] if shutil.which(program) is None]
    if missing and name in os.environ.get("VFS_TESTS_REQUIRE", "").split():
        pytest.fail(f"{', '.join(missing)} must be installed here (VFS_TESTS_REQUIRE)")
    return not missing


def skip_without(name):
    """Skip the calling test where a program is not installed, with the reason."""
    if not available(name):
        pytest.skip(f"{name} is not installed")
