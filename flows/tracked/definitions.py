"""The flows. Each runs one job, with Prefect watching."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

from prefect import Flow
from pydantic import TypeAdapter

from flows.jobs.batch_search import SearchJob
from flows.jobs.building import BuildJob
from flows.jobs.ingestion import IngestJob
from flows.jobs.job import Job
from flows.jobs.mirroring import MirrorJob
from flows.jobs.pruning import PruneJob
from flows.jobs.publishing import PublishJob
from flows.jobs.verification import VerifyJob
from flows.tracked.watcher import TrackedWatcher
from flows.watching import Watcher


@dataclass
class Told:
    """Who in this process is told, besides Prefect, of a flow run and its result."""

    watcher: Watcher = field(default_factory=Watcher)
    done: bool = False
    """Whether the job has been done, whatever Prefect's server was told."""
    result: Any = None
    """What it returned."""
    failure: BaseException | None = None
    """What a stage of it failed with for good."""


_told: ContextVar[Told | None] = ContextVar("told", default=None)


@contextmanager
def told_to(watcher: Watcher) -> Iterator[Told]:
    """Tell a watcher of the flow that runs in the block, and keep its result."""
    told = Told(watcher)
    token = _told.set(told)
    try:
        yield told
    finally:
        _told.reset(token)


def _as_flow(name: str, job_type: type[Job], run_name: str) -> Flow[..., Any]:
    """Return the flow that runs a job.

    Its parameters are the fields of the job, which Prefect validates and shows with their
    descriptions; so a job is described once.
    """

    def work(**parameters: Any) -> Any:
        told = _told.get() or Told()
        watcher = TrackedWatcher(told.watcher)
        try:
            told.result = job_type(**parameters).run(watcher)
        finally:
            told.failure = watcher.failure
        told.done = True
        return told.result

    fields = TypeAdapter(job_type).json_schema()["properties"]
    described = "\n".join(
        f"    {field}: {' '.join(told['description'].split())}" for field, told in fields.items()
    )
    work.__name__ = work.__qualname__ = name
    work.__doc__ = f"{inspect.getdoc(job_type)}\n\nArgs:\n{described}"
    setattr(work, "__signature__", inspect.signature(job_type, eval_str=True))  # noqa: B010
    return Flow(
        work,
        name=name,
        description=inspect.getdoc(job_type),
        flow_run_name=run_name,
        version=version("visual-feature-search"),
    )


ingest_dataset: Final = _as_flow("ingest_dataset", IngestJob, "ingest {name}")
build_caches: Final = _as_flow("build_caches", BuildJob, "build {dataset}")
verify_cache: Final = _as_flow("verify_cache", VerifyJob, "verify {cache}")
mirror_cache: Final = _as_flow("mirror_cache", MirrorJob, "mirror {name}")
prune_workspace: Final = _as_flow("prune_workspace", PruneJob, "prune {workspace}")
publish_catalog: Final = _as_flow("publish_catalog", PublishJob, "publish {workspace}")
search_batch: Final = _as_flow("search_batch", SearchJob, "search {caches}")

FLOWS: Final[dict[type[Job], Flow[..., Any]]] = {
    IngestJob: ingest_dataset,
    BuildJob: build_caches,
    VerifyJob: verify_cache,
    MirrorJob: mirror_cache,
    SearchJob: search_batch,
    PruneJob: prune_workspace,
    PublishJob: publish_catalog,
}
