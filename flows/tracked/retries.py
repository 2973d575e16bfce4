"""Which failures can pass, and how long to wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vfs_ops.errors import ClusterLostError, UnavailableError

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun

DELAYS: Final = (5.0, 30.0, 120.0)
"""Seconds before the second, third and fourth attempt."""
JITTER: Final = 0.3
"""Delays are spread by this part, so that those who failed together do not return together."""
_PASSING: Final = (UnavailableError, ClusterLostError)


def can_pass(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Tell if a stage shall be tried again: where the network, the storage or a worker was lost.

    A bad checkpoint, a full quota or a damaged shard stays what it is, and so does a cluster that
    lacks something.
    """
    return isinstance(state.data, _PASSING)
