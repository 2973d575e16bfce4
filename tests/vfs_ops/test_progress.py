from vfs_ops.progress import Progress, timed


def test_seconds_left_are_told_by_the_pace_of_this_run_and_stage():
    clock = iter(range(100))
    seen = []
    tell = timed(seen.append, clock=lambda: float(next(clock)))
    for done in (40, 50, 60):
        tell(Progress("build", done, 100, "images"))
    assert seen[0].seconds_left is None
    assert seen[1].seconds_left == 5
    tell(Progress("verify", 1, None, "shards"))
    tell(Progress("verify", 2, None, "shards"))
    assert seen[-1].seconds_left is None
