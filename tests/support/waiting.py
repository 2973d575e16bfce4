"""Waiting for what other processes and threads do."""

import time


def until(condition, processes=(), seconds=300):
    """Wait for what a condition returns; fail if a process ends before, or at the end of time."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        for process in processes:
            assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < end, f"{condition} did not come true in {seconds} s"
        time.sleep(0.02)
    return found
