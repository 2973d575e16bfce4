import pytest

from vfs_ops.builds import retries
from vfs_ops.builds.retries import persist
from vfs_ops.errors import AccessError, UnavailableError


class Work:
    """Fails as it is told, and counts what was achieved."""

    def __init__(self, *outcomes):
        self.outcomes, self.done, self.pauses, self.notices = list(outcomes), 0, [], []

    def __call__(self):
        outcome = self.outcomes.pop(0)
        if outcome == "some":
            self.done += 1
            outcome = UnavailableError("no answer")
        if outcome is not None:
            raise outcome

    def run(self):
        persist(
            self,
            achieved=lambda: self.done,
            on_notice=self.notices.append,
            pause=self.pauses.append,
        )


def test_what_passes_is_tried_again_after_growing_pauses():
    work = Work(UnavailableError("no answer"), UnavailableError("still none"), None)
    work.run()
    assert work.pauses == list(retries.PAUSES[:2])
    assert "no answer" in work.notices[0]
    assert "tried again in 1 s" in work.notices[0]


def test_what_stays_is_raised():
    work = Work(*[UnavailableError("no answer")] * 9)
    with pytest.raises(UnavailableError):
        work.run()
    assert work.pauses == list(retries.PAUSES)


def test_progress_starts_the_pauses_anew():
    work = Work(*["some"] * 20, None)
    work.run()
    assert set(work.pauses) == {retries.PAUSES[0]}


def test_what_cannot_pass_is_raised_at_once():
    work = Work(AccessError("refused"))
    with pytest.raises(AccessError):
        work.run()
    assert work.pauses == []
