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

Shard = tuple[np.ndarray, list[bytes]]
"""All bytes, and the same as chunks, since ``google-crc32c`` takes nothing but `bytes`."""
Check = Callable[[Shard], object]


def ways() -> dict[str, Check]:
    """Return each way to check all chunks of a shard."""
    return {
        "google-crc32c": lambda shard: list(map(google_crc32c.value, shard[1])),
        "crc32c": lambda shard: list(map(crc32c, shard[1])),
        "ours": lambda shard: checksums(shard[0], CHUNK),
    }


def main() -> None:
    """Print a table: each way beside `crc32c`, with one thread and with two."""
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (SHARDS, CHUNKS, CHUNK), np.uint8)
    shards = [(chunks.reshape(-1), list(map(bytes, chunks))) for chunks in stored]
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
