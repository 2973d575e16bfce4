from __future__ import annotations

import numpy as np
import pytest
from crc32c import crc32c

from vfs_ops.caches import checksums as checksums_module
from vfs_ops.caches.checksums import checksums
from vfs_ops.kernel import machine_code


@pytest.mark.parametrize("instruction", [True, False])
@pytest.mark.parametrize("size", [8, 12, 200, 4096])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 8])
def test_checksums_of_chunks(
    count: int, size: int, instruction: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not instruction:
        monkeypatch.setattr(machine_code, "has", lambda feature: False)
    data = np.random.default_rng(count).integers(0, 256, count * size + 5, np.uint8)[5:]
    data.setflags(write=False)
    expected = [crc32c(data[size * n : size * (n + 1)].tobytes()) for n in range(count)]
    assert checksums(data, size).tolist() == expected


def test_the_compiled_loop_is_not_entered_without_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums_module, "_side_by_side", None)  # it would write before its array
    assert checksums(np.empty(7, np.uint8), 8).shape == (0,)
