"""Clusters to compute on: processes of this machine, its GPUs, or a Dask scheduler elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from vfs_ops.builds.allocation import KEEPING
from vfs_ops.builds.distribution import TASKS_PER_WORKER
from vfs_ops.builds.pipeline import available_threads
from vfs_ops.errors import ClusterError, ClusterLostError, InputError, MissingDependencyError
from vfs_ops.scans.clusters import check_versions

if TYPE_CHECKING:
    from distributed import Client

THREADS_PER_WORKER: Final = 4
"""Processors a worker of a local cluster uses: kernels use a few well, and each worker holds a
model of its own."""
CONNECT_SECONDS: Final = 30.0

_ENCRYPTED: Final = ("tls", "wss")
_PROTOCOLS: Final = ("tcp", "tls", "ucx", "ws", "wss")
_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

BOUNDS: Final = MappingProxyType(
    {
        "distributed.worker.profile.enabled": False,
        "distributed.admin.low-level-log-length": 100,
        "distributed.admin.log-length": 100,
        "distributed.admin.system-monitor.log-length": 120,
    }
)
"""Settings of Dask for a local cluster: what it keeps about itself, for a dashboard that we do not
show, would grow for an hour (a profile each second, samples of the machine, its own events)."""


@contextlib.contextmanager
def open_cluster(
    cluster: str = "local", *, workers: int | None = None, threads: int | None = None
) -> Iterator[Client]:
    """Open a cluster, for as long as the context lasts.

    Parameters
    ----------
    cluster
        ``"local"`` starts processes on this machine, ``"cuda"`` one process a GPU; anything else
        is the address of a Dask scheduler, as ``"tcp://node:8786"``, which is left running.
    workers
        Number of processes of a local cluster. By default as many as there are groups of
        `THREADS_PER_WORKER` processors, and at least one.
    threads
        Processors each of them computes with; by default all are shared out evenly.

    Yields
    ------
    distributed.Client

    Raises
    ------
    InputError
        If the address is none, or `workers` or `threads` are given for a cluster that has its own.
    MissingDependencyError
        If ``"cuda"`` needs what is not installed.
    ClusterLostError
        If no scheduler answers.
    ClusterError
        If there is no GPU, or the cluster's Python cannot work with ours.

    Examples
    --------
    >>> with open_cluster("local", workers=2) as client:       # doctest: +SKIP
    ...     caches = build(dataset, extractor, client=client)  # doctest: +SKIP
    """
    check_cluster(cluster, workers=workers, threads=threads)
    with contextlib.ExitStack() as stack:
        if cluster == "local":
            place = stack.enter_context(_local(workers, threads))
        elif cluster == "cuda":
            place = stack.enter_context(_cuda())
        else:
            place = cluster
        yield stack.enter_context(_client(place))


def check_cluster(cluster: str, *, workers: int | None = None, threads: int | None = None) -> None:
    """Refuse what `open_cluster` would, as far as that is known without opening anything.

    Raises
    ------
    InputError
        See `open_cluster`.
    ClusterError
        If there is no GPU.
    """
    if cluster != "local" and (workers, threads) != (None, None):
        raise InputError(f"workers and threads are for the local cluster; {cluster[:80]!r} has its")
    for name, number in (("workers", workers), ("threads", threads)):
        if number is not None and number < 1:
            raise InputError(f"{name} is {number}; expected at least 1")
    if cluster == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ClusterError("no GPU that torch can use is here; leave out --cluster cuda")
    elif cluster != "local":
        protocol, colon, place = cluster.partition("://")
        if not colon or protocol not in _PROTOCOLS or not place:
            raise InputError(
                f"{cluster[:80]!r} is no cluster; expected 'local', 'cuda' or the address of a "
                "Dask scheduler, as tcp://node:8786"
            )
        if protocol in _ENCRYPTED:
            _check_certificates(cluster)


def _check_certificates(address: str) -> None:
    """Refuse an encrypted address without Dask's own configuration of certificates."""
    import dask

    place = "distributed.comm.tls"
    if not all(dask.config.get(f"{place}.{name}", None) for name in ("ca-file", "client.cert")):
        raise InputError(
            f"{address[:80]} is encrypted, and Dask's configuration names no certificates; set "
            f"{place}.ca-file, .client.cert and .client.key in a file below ~/.config/dask, or "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__CLIENT__CERT and …__CLIENT__KEY"
        )


def local_layout(workers: int | None, threads: int | None) -> tuple[int, int]:
    """Return workers and processors a worker for this machine, where they are not given."""
    processors = available_threads()
    if workers is None:
        workers = max(1, processors // (threads or THREADS_PER_WORKER))
    return workers, threads or max(1, processors // workers)


@contextlib.contextmanager
def _local(workers: int | None, threads: int | None) -> Iterator[Any]:
    import dask
    import distributed

    local: Any = distributed.LocalCluster  # Dask gives it no types
    count, each = local_layout(workers, threads)
    environment = {**dict.fromkeys(_THREAD_VARIABLES, str(each)), **KEEPING}
    with (
        _restored((*environment, "PYTHONHASHSEED")),
        tempfile.TemporaryDirectory(prefix="vfs-dask-", ignore_cleanup_errors=True) as folder,
        dask.config.set(
            {
                "temporary-directory": folder,
                # before a worker starts: its allocator looks only then
                "distributed.nanny.pre-spawn-environ": environment,
                **BOUNDS,
            }
        ),
        local(
            n_workers=count,
            # Dask's threads hold tasks; how many compute is said to torch by the environment
            threads_per_worker=TASKS_PER_WORKER,
            processes=True,
            # again, since Dask prefers what this process was started with, or another cluster set
            env=environment,
            # no dashboard, and any port for what else the scheduler says over HTTP
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            worker_dashboard_address=None,
            silence_logs=logging.CRITICAL,
            local_directory=folder,
        ) as running,
    ):
        yield running


@contextlib.contextmanager
def _restored(names: Iterable[str]) -> Iterator[None]:
    """Take back what Dask sets in this process for its children to inherit."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _cuda() -> Iterator[Any]:
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise MissingDependencyError(
            f"a cluster of GPUs needs dask-cuda ({error}): "
            "pip install 'visual-feature-search[cuda]'"
        ) from error
    with (
        tempfile.TemporaryDirectory(prefix="vfs-dask-", ignore_cleanup_errors=True) as folder,
        LocalCUDACluster(
            threads_per_worker=TASKS_PER_WORKER,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
            local_directory=folder,
        ) as running,
    ):
        yield running


@contextlib.contextmanager
def _client(place: Any) -> Iterator[Client]:
    import distributed

    untyped: Any = distributed.Client
    try:
        client = untyped(place, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        raise ClusterLostError(
            f"no scheduler answers at {place} ({error}); start one, or leave out the address"
        ) from error
    except ValueError as error:
        raise InputError(f"{place} cannot be the address of a scheduler ({error})") from error
    try:
        check_versions(client)
        yield client
    finally:
        client.close(timeout=5)
