"""Work spread over threads that each compute alone.

Torch's own threads meet after every operation, which for operations of some hundred microseconds
costs as much as it saves, and much more where other programs run. So the kernel gives each thread
blocks or queries of its own, and torch in these threads uses one thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import cache

import torch

from vfs_ops.kernel.blocks import Scratch


def spread(tasks: Sequence[int], run: Callable[[int, Scratch], None], scratch: Scratch) -> None:
    """Run tasks on as many threads as torch would use, each task once, in any order.

    In a thread of `workers` they run here, one after the other, and so does a single task. What
    was allowed to torch by ``torch.set_num_threads`` is what is used. An error of a task, or an
    interrupt, ends the others with the task that they are at.

    Parameters
    ----------
    tasks
        Numbers of what to run.
    run
        Called with a task and buffers of the thread that runs it.
    scratch
        Buffers of the calling thread; those of the others are kept with them.
    """
    threads = 1 if _of_worker.alone else min(torch.get_num_threads(), len(tasks))
    if threads <= 1:
        with plain_arithmetic():
            for task in tasks:
                run(task, scratch)
        return
    shared = iter(tasks)  # threads take the next task from it as they get free

    def work(own: Scratch) -> None:
        with plain_arithmetic():
            for task in shared:
                run(task, own)

    pool = workers(torch.get_num_threads())
    running = [pool.submit(work, scratch.of_worker(number)) for number in range(threads)]
    try:
        for one in running:
            one.result()
    finally:
        deque(shared, maxlen=0)  # after an error or an interrupt nobody takes another task
        wait(running)


@cache
def workers(threads: int) -> ThreadPoolExecutor:
    """Return threads in which torch computes without others; they are kept for the next call."""
    before = torch.get_num_threads()
    started = threading.Barrier(threads)
    pool = ThreadPoolExecutor(threads, "vfs-kernel", _compute_alone)
    list(pool.map(lambda _: started.wait(), range(threads)))
    torch.set_num_threads(before)  # the call in a thread also changes what new threads begin with
    return pool


def _compute_alone() -> None:
    torch.get_num_threads()  # torch sets a thread's number when first asked, which is now
    torch.set_num_threads(1)
    _of_worker.alone = True


class _OfWorker(threading.local):
    alone = False


_of_worker = _OfWorker()


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Compute without gradients and in the types that are given, whatever torch is told."""
    with ExitStack() as settings:
        settings.enter_context(torch.inference_mode())
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            settings.enter_context(torch.autocast(device, enabled=False))
        yield
