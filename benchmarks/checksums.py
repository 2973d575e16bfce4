"""GB/s of checking the chunks of shards in memory, by library: ``python -m benchmarks.checksums``.

Each thread checks shards of its own, as a scan does. ``google-crc32c`` is what Zarr uses.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import numpy as np
from crc32c import crc32c

from benchmarks.pairs import compare, report
from vfs_ops.caches.checksums import checksums

CHUNK, CHUNKS, SHARDS, PAIRS = 200_704, 128, 8, 5

Check = Callable[[np.ndarray], object]


def ways() -> dict[str, Check]:
    """Return each way to check all chunks of a shard."""

    def each(check: Callable[[memoryview], int]) -> Check:
        starts = range(0, CHUNK * CHUNKS, CHUNK)
        return lambda shard: [check(shard.data[start : start + CHUNK]) for start in starts]

    return {
        "google-crc32c": each(google_crc32c.value),
        "crc32c": each(crc32c),
        "ours": lambda shard: checksums(shard, CHUNK),
    }


def main() -> None:
    """Print a table: each way beside `crc32c`, with one thread and with two."""
    rng = np.random.default_rng(0)
    shards = list(rng.integers(0, 256, (SHARDS, CHUNKS * CHUNK), np.uint8))
    for shard in shards:
        shard.flags.writeable = False  # google-crc32c takes no other memory
    total, rows = SHARDS * CHUNKS * CHUNK / 1e9, []
    for threads in (1, 2):
        with ThreadPoolExecutor(threads) as pool:

            def run(check: Check, pool: ThreadPoolExecutor = pool) -> Callable[[], object]:
                return lambda: list(pool.map(check, shards))

            peer = run(ways()["crc32c"])
            for name, check in ways().items():
                seconds = compare(run(check), peer, PAIRS).summary()["ours_seconds"]
                rows.append({"way": name, "threads": threads, "GB/s": total / seconds})
    report(rows, None)


if __name__ == "__main__":
    main()
