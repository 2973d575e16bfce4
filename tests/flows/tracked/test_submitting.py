"""What is asked of a real server, and what it says when it cannot be asked."""

from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from flows.jobs.building import BuildJob, ExtractorChoice
from flows.requested_builds import LEFT_TO_DEPLOYMENT
from vfs_ops.errors import AccessError, MismatchError, NotFoundError, UnavailableError

JOB = BuildJob(
    workspace="file:///tmp/x",
    dataset="photos",
    extractors=(ExtractorChoice(model="timm:resnet10t", layers=("layer4",)),),
)
SCHEDULER = "tcp://scheduler:8786"


@pytest.fixture
def deployed(runs):
    """Deploy builds that compute elsewhere; no worker ever takes their runs."""
    from flows.tracked.deployments import Deployment, deploy

    given = {"workspace": "file:///tmp/y", "cluster": SCHEDULER, "dtype": "float32"}
    deploy([Deployment("build_caches", "elsewhere", given)], "nobodys")
    return runs


@pytest.fixture
def ask(deployed):
    """Ask for what a digest stands for; tells whether anybody is seen at work on it."""
    from flows.tracked.submitting import Question, submit

    def asked(digest, *, at_work=True):
        question = Question(digest * 32, lambda: at_work)
        return submit(JOB, "elsewhere", leave=LEFT_TO_DEPLOYMENT, question=question)

    return asked


@pytest.fixture
def put(deployed):
    """Put a run into a state, as its worker does."""
    from prefect.client.schemas.objects import State

    def put_into(submitted, state):
        made = State(type=state, name="as somebody called it")
        deployed.client.set_flow_run_state(UUID(submitted.flow_run_id), made, force=True)

    return put_into


def test_a_deployment_says_itself_where_it_computes(ask, deployed):
    run = deployed.client.read_flow_run(UUID(ask("a").flow_run_id))
    given = run.parameters
    assert (given["workspace"], given["dtype"]) == ("file:///tmp/x", "float16")  # what is asked for
    assert given["cluster"] == SCHEDULER
    assert not {"workers", "device", "threads", "images"} & set(given)


def test_who_asks_for_the_same_gets_the_run_that_is_under_way(ask, put):
    first = ask("b")
    assert ask("b") == first
    assert ask("c") != first
    put(first, "RUNNING")
    assert ask("b", at_work=False) == first  # it has just begun
    put(first, "FAILED")
    assert first.wait() == "Failed"
    second = ask("b")
    assert second != first
    assert ask("b") == second
    put(second, "COMPLETED")  # and yet it is asked for again: it was removed
    assert ask("b") not in (first, second)


def test_a_run_whose_worker_is_lost_is_not_waited_for(ask, put, monkeypatch):
    lost = ask("d")
    put(lost, "RUNNING")
    monkeypatch.setattr("flows.tracked.submitting._TO_BEGIN", timedelta(0))
    assert ask("d", at_work=True) == lost
    assert ask("d", at_work=False) != lost


def test_a_run_that_was_deleted_is_not_found(ask, deployed):
    run = ask("e")
    deployed.client.delete_flow_run(UUID(run.flow_run_id))
    with pytest.raises(NotFoundError, match=r"deleted it; ask again"):
        run.wait()


@pytest.mark.parametrize(
    ("status", "error"),
    [(None, UnavailableError), (503, UnavailableError), (401, AccessError), (409, MismatchError)],
)
def test_a_server_that_cannot_be_asked_is_an_error_of_ours(ask, monkeypatch, status, error):
    from flows.tracked import submitting

    run = ask("f")

    class Broken:
        def read_flow_run(self, *_, **__):
            request = httpx.Request("GET", "http://127.0.0.1:4200/api")
            if status is None:
                raise httpx.ConnectError("no route", request=request)
            httpx.Response(status, request=request, text="no").raise_for_status()

        read_flow_runs = read_flow_run

    @contextmanager
    def broken(**_):
        yield Broken()

    monkeypatch.setattr(submitting, "get_client", broken)
    for work in (run.wait, lambda: ask("f")):
        with pytest.raises(error) as caught:
            work()
        assert type(caught.value) is error
