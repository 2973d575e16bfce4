"""Calls of one function over a Dask cluster: few at a time, results as they come."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from vfs_ops.caches.plans import MAX_THREADS
from vfs_ops.errors import ClusterError, ClusterLostError, InputError

if TYPE_CHECKING:
    from distributed import Client, Future, WorkerPlugin

TASKS_PER_WORKER: Final = 2
"""One computes and stores while the next decodes, so that no worker runs dry between tasks; more
would only take memory."""
PATIENCE_SECONDS: Final = 60.0
"""How long a cluster may have no worker, or its scheduler not answer."""

_LOOK_SECONDS: Final = 2.0  # between two looks at which workers there are
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def run_on_workers(
    client: Client,
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    name: str,
    on_result: Callable[[_Result], None],
    on_notice: Callable[[str], None],
) -> None:
    """Call a function once an item, on whichever worker; a bounded number of calls at a time.

    Neither this process, nor the scheduler, nor a worker keeps anything of calls that are not
    under way, so any number of items takes the same memory. Calls on a worker that dies are made
    again on others, as often as the scheduler allows.

    Parameters
    ----------
    client
        Of the cluster; used by nobody else meanwhile.
    function
        Importable, or small. Its first error ends the run and is raised as it is.
    items
        Small; taken one by one.
    name
        Shown on Dask's dashboard.
    on_result
        Told each result, in the order of completion, in this thread.
    on_notice
        Told when workers are lost.

    Raises
    ------
    ClusterLostError
        If the scheduler is gone, or there are no workers.
    ClusterError
        If workers die again and again over one task.
    """
    finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    upcoming, running = iter(items), dict[Any, Any]()
    label, number = f"vfs-{name}-{secrets.token_hex(4)}", 0
    workers = _Workers(client, on_notice)
    ahead = list(islice(upcoming, 1))
    try:
        while ahead or running:
            room = TASKS_PER_WORKER * workers.count() - len(running)
            while ahead and room > 0:
                call = _packed(function, ahead.pop())
                future: Any = client.submit(pickle.loads, call, key=(label, number), pure=False)
                running[future.key], number, room = future, number + 1, room - 1
                future.add_done_callback(finished.put)
                ahead.extend(islice(upcoming, 1))
            if not running:
                continue  # no worker is there: counting them pauses, and gives up in the end
            with contextlib.suppress(queue.Empty):
                future = finished.get(timeout=_LOOK_SECONDS)
                del running[future.key]
                on_result(_result(future))
                del future  # the cluster forgets it now
    finally:
        if running and client.status == "running":
            untyped: Any = client
            untyped.cancel(list(running.values()))


class _Call:
    """A call that is made where it is unpickled.

    A scheduler unpickles the tasks that it is given, and one that runs elsewhere need not have our
    packages: to it, this is `pickle.loads` of some bytes.
    """

    def __init__(self, function: Callable[[Any], Any], item: Any) -> None:
        self._function, self._item = function, item

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        return self._function, (self._item,)


def _packed(function: Callable[[_Item], Any], item: _Item) -> bytes:
    from distributed.protocol import pickle as dask_pickle

    untyped: Any = dask_pickle
    packed: bytes = untyped.dumps(_Call(function, item))
    return packed


@contextlib.contextmanager
def plugged(client: Client, plugin: WorkerPlugin, name: str) -> Iterator[None]:
    """Give every worker a plugin, those that join later too, for as long as the context lasts.

    Raises
    ------
    ClusterError
        If a worker cannot take it.
    InputError
        If it cannot be sent.
    """
    try:
        client.register_plugin(plugin, name=name)
    except ImportError as error:
        raise ClusterError(
            f"a worker lacks a module ({error}); install the same packages there, or put the "
            "module of your model into one"
        ) from error
    except OSError as error:
        raise _gone(str(error)) from error
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InputError(
            f"the model, or the source of its images, cannot be sent to workers ({error}); "
            "expected what pickles, as a module of parameters and plain values, and a folder, URL "
            "or source of this project"
        ) from error
    try:
        yield
    finally:
        if client.status == "running":
            # who is gone has forgotten it anyway
            with contextlib.suppress(OSError, TimeoutError, KeyError, ValueError):
                untyped: Any = client
                untyped.unregister_worker_plugin(name)


def worker_threads(client: Client) -> int:
    """Return the threads that the workers' torch computes with, the fewest of any.

    Raises
    ------
    ClusterLostError
        If the scheduler is gone, or has had no worker for a while.
    InputError
        If a worker's OMP_NUM_THREADS is no number of threads.
    """
    workers = _Workers(client, lambda notice: None)
    while not workers.count():
        pass  # it pauses, and gives up in the end
    try:
        found: dict[str, int] = client.run(threads_here)
    except OSError as error:
        raise _gone(str(error)) from error
    if not found:
        raise ClusterLostError("the workers are gone; start some, and run again to go on")
    return min(found.values())


def threads_here() -> int:
    """Return the threads that torch computes with in this worker: those of the environment.

    Raises
    ------
    InputError
        If its OMP_NUM_THREADS is no number of threads.
    """
    import torch

    if "OMP_NUM_THREADS" in os.environ:  # torch may have been loaded before it was set
        given = os.environ["OMP_NUM_THREADS"]
        first = given.partition(",")[0].strip()
        if not (first.isascii() and first.isdecimal() and 0 < int(first[:9]) <= MAX_THREADS):
            raise InputError(
                f"OMP_NUM_THREADS of a worker is {given[:40]!r}; expected a number from 1 to "
                f"{MAX_THREADS}; start the worker with another"
            )
        torch.set_num_threads(int(first))
    return torch.get_num_threads()


class _Workers:
    """Which workers there are; looks anew every few seconds."""

    def __init__(self, client: Client, on_notice: Callable[[str], None]) -> None:
        self._client, self._on_notice = client, on_notice
        self._known: dict[str, str] = {}
        self._looked = self._last_seen = time.monotonic() - _LOOK_SECONDS

    def count(self) -> int:
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS or not self._known:
            self._look(now)
            self._looked = now
        return len(self._known)

    def _look(self, now: float) -> None:
        if self._client.status not in ("running", "connecting"):
            raise _gone(f"the client is {self._client.status}")
        found: dict[str, str] = {}
        if self._client.status == "running":
            with contextlib.suppress(OSError):
                listed = self._client.scheduler_info(n_workers=-1)["workers"]
                found = {address: str(worker["name"]) for address, worker in listed.items()}
        if found:
            self._last_seen = now
            for address in self._known.keys() - found.keys():
                self._on_notice(
                    f"worker {self._known[address]} ({address}) is gone; what it was doing is "
                    "done again elsewhere"
                )
            self._known = found
        elif now - self._last_seen > PATIENCE_SECONDS:
            raise ClusterLostError(
                f"the cluster has had no worker for {PATIENCE_SECONDS:g} s; start some and run "
                "again to go on"
            )
        else:
            time.sleep(0.1)


def _result(future: Future[Any]) -> Any:
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        return future.result()
    except KilledWorker as error:
        raise ClusterError(
            f"workers died, one after another, over the same task ({error.allowed_failures + 1} "
            "times); the machine may lack memory, so use fewer workers a machine, and run again "
            "to go on"
        ) from error
    except (FutureCancelledError, OSError) as error:
        raise _gone(str(error)) from error


def _gone(why: str) -> ClusterLostError:
    return ClusterLostError(
        f"the scheduler is gone ({' '.join(why.split())[:200]}); start a cluster and run again to "
        "go on"
    )
