"""Which cluster runs a scan, if any."""

from __future__ import annotations

import sys
from typing import Any

from vfs_ops.caches.cache import Cache
from vfs_ops.errors import QueryError


def cluster_of(cache: Cache, client: Any) -> Any:
    """Return the `distributed.Client` on whose workers a cache is searched, or None.

    That is the given one, or else the active one, unless only this process can see the cache.

    Raises
    ------
    QueryError
        If one is given for a cache that only this process can see.
    """
    here = cache.resident or cache.workspace.protocol == "memory"
    if client is not None and here:
        raise QueryError(
            f"cache {cache.id[:12]} lies in the memory of this process, which a cluster's workers "
            "cannot see; leave client= out"
        )
    return None if here else client or active_client()


def threads_of(client: Any) -> int:
    """Return how many threads a cluster's workers have now; 1 while it has none."""
    return sum(client.nthreads().values()) or 1


def active_client() -> Any:
    """Return the process's active `distributed.Client`; None if there is none."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()  # type: ignore[no-untyped-call]
    except ValueError:
        return None
