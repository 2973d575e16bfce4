"""Which cluster runs a scan, if any, and whether it can."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final
from weakref import WeakSet

from vfs_ops.caches.cache import Cache
from vfs_ops.errors import ClusterError, ClusterLostError, QueryError

_PACKAGES: Final = ("dask", "distributed", "visual-feature-search", "torch")
_OF_SCHEDULER: Final = ("Python", "dask", "distributed")
_checked: Final[WeakSet[Any]] = WeakSet()


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


def check_versions_once(client: Any) -> None:
    """Do `check_versions` at the first search of a client: it takes some milliseconds.

    A worker that cannot read a task breaks off its connection, instead of saying so.
    """
    if client not in _checked:
        check_versions(client)
        _checked.add(client)


def check_versions(client: Any) -> None:
    """Refuse a cluster whose Python or libraries cannot take our tasks, or would compute others.

    Dask tells who has what, which needs nothing of ours there.

    Parameters
    ----------
    client
        A `distributed.Client`.

    Raises
    ------
    ClusterError
        Naming what is missing or other, and where; `ClusterLostError` if nobody answers.
    """
    try:
        found = client.get_versions(packages=list(_PACKAGES))
    except OSError as error:
        raise ClusterLostError(
            f"the scheduler of the cluster, or a worker, stopped answering ({error}); run again"
        ) from error
    ours = _versions(found["client"])
    _compare("the scheduler", _versions(found["scheduler"]), ours, _OF_SCHEDULER)
    for address, worker in found["workers"].items():
        _compare(f"worker {address}", _versions(worker), ours, ("Python", *_PACKAGES))


def _versions(told: Mapping[str, Any]) -> dict[str, str | None]:
    packages = dict(told["packages"])
    return {**packages, "Python": ".".join(packages["python"].split(".")[:2])}


def _compare(
    who: str,
    theirs: Mapping[str, str | None],
    ours: Mapping[str, str | None],
    names: Iterable[str],
) -> None:
    for name in names:
        if theirs.get(name) != ours[name]:
            has = f"has {name} {theirs[name]}" if theirs.get(name) else f"lacks {name}"
            raise ClusterError(f"{who} {has}; install {name} {ours[name]} there, as it is here")
