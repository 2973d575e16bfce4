"""The Dask cluster of a job: opened when there is something to spread, and again if it is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self

from vfs_ops.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client

    from vfs_ops.builds.builder import PlannedCache
    from vfs_ops.store.workspace import Workspace


def check_optional_cluster(cluster: str | None) -> None:
    """Refuse what is no cluster before anything is opened; None is this process.

    Raises
    ------
    InputError, ClusterError
        See `vfs_ops.builds.clusters.check_cluster`.
    """
    if cluster is not None:
        from vfs_ops.builds.clusters import check_cluster

        check_cluster(cluster)


@contextmanager
def optional_client(cluster: str | None) -> Iterator[Client | None]:
    """Give the client of a cluster; None where this process does the work.

    Raises
    ------
    InputError, ClusterError
        See `vfs_ops.builds.clusters.open_cluster`.
    """
    if cluster is None:
        yield None
        return
    from vfs_ops.builds.clusters import open_cluster

    with open_cluster(cluster) as client:
        yield client


class LazyCluster:
    """A cluster for the stages of one job.

    A single shard on this machine is computed, and read, in this process: other processes would
    have to start and load the model for nothing.

    Parameters
    ----------
    cluster, workers
        See `vfs_ops.builds.clusters.open_cluster`.
    planned
        What is to be built.
    all_read
        True if finished caches are read too, and what is damaged of them computed again.
    """

    def __init__(
        self,
        cluster: str,
        workers: int | None,
        planned: Sequence[PlannedCache],
        *,
        all_read: bool = False,
    ) -> None:
        self._cluster, self._workers = cluster, workers
        touched = [cache for cache in planned if all_read or not cache.complete]
        missing = [
            cache.plan.shard_count
            if cache.complete
            else cache.plan.shard_count - cache.finished_shards - cache.copied_shards
            for cache in touched
        ]
        models = {cache.spec.extractor.model for cache in touched}
        self._here = not missing or (cluster == "local" and max(missing) <= 1 and len(models) == 1)
        self._opened = ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def check_capacity(
        self, planned: Sequence[PlannedCache], workspace: Workspace, quota: int | None
    ) -> None:
        """Refuse what cannot fit; a local cluster is not started for it.

        Raises
        ------
        TooLargeError, StorageFullError
            See `vfs_ops.builds.builder.check_capacity`.
        ClusterError
            If the cluster cannot be reached.
        """
        from vfs_ops.builds.builder import check_capacity
        from vfs_ops.builds.clusters import local_layout

        if self._here or self._cluster == "local":
            processes = 1 if self._here else local_layout(self._workers, None)[0]
            check_capacity(planned, workspace, processes=processes, quota=quota)
            return
        with self.client() as client:
            check_capacity(planned, workspace, client=client, quota=quota)

    @contextmanager
    def client(self) -> Iterator[Client | None]:
        """Give the client of the cluster; None where this process does the work.

        Raises
        ------
        ClusterError
            If the cluster cannot be reached, or is lost while it works. The next call opens
            another one.
        """
        if self._here:
            yield None
            return
        from vfs_ops.builds.clusters import open_cluster

        try:
            if self._client is None:
                self._client = self._opened.enter_context(
                    open_cluster(self._cluster, workers=self._workers)
                )
            yield self._client
        except ClusterError:
            self._client = None
            self._opened.close()
            raise
