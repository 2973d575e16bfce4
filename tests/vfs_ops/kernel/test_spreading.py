from __future__ import annotations

import threading
import time

import pytest
import torch

from vfs_ops.kernel.blocks import Scratch
from vfs_ops.kernel.spreading import spread, workers


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_each_task_runs_once_on_a_thread_that_computes_alone() -> None:
    done, inside, scratch = [], set(), Scratch()

    def run(task: int, own: Scratch) -> None:
        done.append(task)
        inside.add((torch.get_num_threads(), own is scratch))
        spread([0], lambda _, deeper: inside.add((deeper is own, False)), own)

    spread(range(20), run, scratch)
    assert sorted(done) == list(range(20))
    assert inside == {(1, False), (True, False)}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_one_task_runs_here() -> None:
    threads = []
    spread([7], lambda _, own: threads.append(threading.current_thread()), Scratch())
    assert threads == [threading.current_thread()]


@pytest.mark.usefixtures("two_threads")
def test_an_error_reaches_the_caller_and_the_threads_go_on_living() -> None:
    def fail(task: int, own: Scratch) -> None:
        raise ValueError(f"task {task}")

    with pytest.raises(ValueError, match="task"):
        spread(range(4), fail, Scratch())
    done: list[int] = []
    spread(range(4), lambda task, own: done.append(task), Scratch())
    assert sorted(done) == [0, 1, 2, 3]


@pytest.mark.usefixtures("two_threads")
def test_after_an_error_no_other_task_is_begun() -> None:
    begun, done, free = threading.Event(), [], threading.Barrier(2)

    def run(task: int, own: Scratch) -> None:
        if task == 0:
            assert begun.wait(30)
            raise KeyboardInterrupt
        begun.set()
        time.sleep(0.001)
        done.append(task)

    with pytest.raises(KeyboardInterrupt):
        spread(range(5000), run, Scratch())
    before = len(done)
    list(workers(2).map(lambda _: free.wait(30), range(2)))  # both threads have nothing to do
    assert len(done) == before < 4999


@pytest.mark.usefixtures("two_threads")
def test_other_threads_keep_the_number_that_was_set() -> None:
    workers(2)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [2]
