"""What a Prefect server knows of flow runs, asked over its API."""

from contextlib import contextmanager
from dataclasses import dataclass

from waiting import until

_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class Runs:
    """The runs of the server of this process."""

    client: object

    def ask(self, what, **body):
        """Return the answer to a POST of JSON."""
        return self.client.request("POST", what, json=body).json()

    def last(self):
        """Return the flow run that was created last."""
        return self.ask("/flow_runs/filter", limit=1, sort="EXPECTED_START_TIME_DESC")[0]

    def stages(self, run, named):
        """Return how often each stage of a flow run that has ended was run.

        The server takes down beside the run what becomes of its stages: those that are `named` are
        waited for, and that all have ended.
        """

        def ended():
            found = self.ask("/task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
            stages = {one["name"].rpartition("-")[0]: one for one in found}
            whole = all(one["state_type"] in _ENDED for one in found) and stages.keys() >= named
            return [stages] if whole else None

        [stages] = until(ended)
        return {name: one["run_count"] for name, one in stages.items()}

    def check_stages(self, run, expected):
        """Fail unless the stages of a flow run were run as often as expected, and no others."""
        assert self.stages(run, set(expected)) == expected

    def artifacts(self, run, kind=None):
        """Return the artifacts of a flow run, the oldest first."""
        found = self.ask("/artifacts/filter", flow_runs={"id": {"any_": [run["id"]]}})
        return [one for one in reversed(found) if kind in (None, one["type"])]


@contextmanager
def known_runs():
    """Ask the server that flows of this process are tracked by."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield Runs(client)
