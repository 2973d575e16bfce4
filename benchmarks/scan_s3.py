"""Searches of a cache on S3 against fetching the same bytes: ``python -m benchmarks.scan_s3``.

A real S3 server (Ceph where it is installed, else moto) on this machine, asked directly and
through a proxy of 1 Gbit/s with 20 ms of latency. `ratio` is the time of fetching the same objects
with the same client, as many at once, over that of the search: 0.91 is promised when throttled.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import scan_caches
from benchmarks.pairs import compare
from benchmarks.report import Result, write
from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.scans.plan import plan_scan
from vfs_ops.scans.search import search
from vfs_ops.store.workspace import Workspace

PROMISED = 1 / 1.1


def timed(cache: Cache, case: str, threads: int | None, pairs: int) -> Result:
    [query] = scan_caches.random_queries(cache, 1)
    at_once = plan_scan(cache, threads=threads).threads
    hits = search(cache, query, 50, threads=threads)
    made = compare(
        lambda: search(cache, query, 50, threads=threads),
        lambda: scan_caches.fetch(cache, at_once),
        pairs,
    )
    described = {
        "case": f"{case}, {at_once} threads{' (default)' if threads is None else ''}",
        "fetch_MB_s": hits.provenance.bytes_read / 1e6 / made.summary()["peer_seconds"],
        "requests": hits.provenance.requests,
    }
    return Result.beside_floor("s3", described, made)


def main() -> int:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="of 7×7×512")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved timings of each")
    parser.add_argument("--json", type=Path, help="write the results there")
    given = parser.parse_args()
    from s3_server import environment, starting_s3

    rows = []
    with starting_s3() as ready:
        server = ready()
        bucket = server.new_bucket()
        with environment(server.environment()):
            workspace = Workspace.at(f"s3://{bucket}/scan")
            cache = scan_caches.random_cache(workspace, given.images)
            rows.append(timed(cache, "loopback", None, given.pairs))
        proxy_script = Path(__file__).parents[1] / "tests" / "support" / "proxy.py"
        command = [sys.executable, str(proxy_script), server.endpoint]
        with subprocess.Popen(
            [*command, "--gbit", "1", "--latency", "20"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as proxy:
            url = str(proxy.stdout.readline()).strip() if proxy.stdout else ""
            with environment(server.environment(endpoint=url)):
                throttled = open_cache(workspace, cache.id)
                rows.extend(
                    timed(throttled, "1 Gbit/s, 20 ms", threads, given.pairs)
                    for threads in (None, 2)
                )
            proxy.communicate("")
    write(rows, "scan_s3", given.json)
    throttled_ratio = rows[1].ratio or 0
    print(f"\n{throttled_ratio:.2f} of fetching, throttled ({PROMISED:.2f} is promised)")
    return 0 if throttled_ratio >= PROMISED else 1


if __name__ == "__main__":
    sys.exit(main())
