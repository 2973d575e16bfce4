"""The clock of the event loop on which fsspec asks servers, which a test moves instead of waiting.

So time limits need not be short to be reached, and no answer that is only late reaches them.
"""

from fsspec.asyn import get_loop


class LoopClock:
    """A clock that can be moved forward; never back, since timers were set by it."""

    def __init__(self, loop):
        self._loop, self._time, self._ahead = loop, loop.time, 0.0
        loop.time = self._now

    @classmethod
    def of_fsspec(cls):
        """Return the clock of fsspec's loop, the same one every time."""
        loop = get_loop()
        if not isinstance(getattr(loop.time, "__self__", None), cls):
            cls(loop)
        return loop.time.__self__

    def move(self, seconds):
        """Let so much time pass at once; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._move, seconds)

    def _move(self, seconds):
        self._ahead += seconds

    def _now(self):
        return self._time() + self._ahead
