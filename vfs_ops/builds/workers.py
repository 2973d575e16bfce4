"""What a Dask worker does in a build.

Everything that a pass needs reaches each worker once, and is there for workers that join or come
back later; a task is then a few numbers.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from distributed.diagnostics.plugin import WorkerPlugin

from vfs_ops.builds.allocation import freed_memory_kept
from vfs_ops.builds.distribution import threads_here
from vfs_ops.builds.pipeline import compute_shards
from vfs_ops.builds.reports import ShardReport
from vfs_ops.builds.retries import persist
from vfs_ops.builds.stretches import PendingCache, Stretch, still_missing
from vfs_ops.caches.layout import read_plan, read_probe
from vfs_ops.caches.recipes import ModelRecipe, extractor_of
from vfs_ops.datasets.dataset import ImageReader, open_dataset
from vfs_ops.errors import ClusterError, ClusterLostError
from vfs_ops.models.probe import check_probe, probe
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Worker
    from numpy.typing import NDArray
    from PIL import Image

    from vfs_ops.identity.preprocessing import Preprocessing
    from vfs_ops.models.extract import FeatureExtractor


@dataclass(frozen=True, eq=False)
class Pass:
    """One model over one dataset, for caches of one batch size: all but the rows."""

    name: str
    """Names the pass among all that a worker may have; random."""
    recipe: ModelRecipe
    workspace: Workspace
    pending: tuple[PendingCache, ...]
    dataset_workspace: Workspace
    dataset: str
    images: Any
    """Where the images are; see `Dataset.reader`."""
    threads: int | None
    """Decoding threads a worker; as many as torch computes with, if None."""


@dataclass(frozen=True)
class StretchReport:
    """What a task returns."""

    stretch: Stretch
    shards: tuple[ShardReport, ...]
    """Those that were computed; not those that another builder had finished."""
    notices: tuple[str, ...]


class PassPlugin(WorkerPlugin):
    """Brings a pass to every worker, and takes it away."""

    def __init__(self, work: Pass) -> None:
        self.work = work
        self.name = work.name

    def setup(self, worker: Worker) -> None:
        """Keep the pass; the model is loaded by the first task."""
        running = _RunningPass(self.work, str(worker.name))
        running.context.enter_context(freed_memory_kept())
        _RUNNING[self.name] = running

    def teardown(self, worker: Worker) -> None:
        """Forget the pass, and stop what still runs of it."""
        running = _RUNNING.pop(self.name, None)
        if running is not None:
            running.stop()
            running.context.close()


def compute_stretch(name: str, stretch: Stretch) -> StretchReport:
    """Compute what is missing of a stretch; the task of a build."""
    running = _RUNNING.get(name)
    if running is None:
        raise ClusterLostError("this worker knows nothing of the build; the build was ended")
    return running.compute(stretch)


@dataclass(frozen=True)
class _Ready:
    """What the tasks of a pass share on a worker; to the pipeline, an extractor.

    All passes of the model run in one thread: torch keeps threads of its own for each thread that
    calls it, and those of several would wait for each other at the processors.
    """

    extractor: FeatureExtractor
    reader: ImageReader
    decoders: ThreadPoolExecutor
    model: ThreadPoolExecutor

    @property
    def preprocessing(self) -> Preprocessing:
        return self.extractor.preprocessing

    @property
    def hardware(self) -> str:
        return self.extractor.hardware

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        return self.extractor.prepare(image)

    def features(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return self.model.submit(self.extractor.features, pixels).result()


@dataclass
class _RunningPass:
    """A pass on one worker: its model, reader and threads, shared by the tasks."""

    work: Pass
    worker: str
    context: ExitStack = field(default_factory=ExitStack)
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ready: _Ready | None = None

    def compute(self, stretch: Stretch) -> StretchReport:
        reports: list[ShardReport] = []
        notices: list[str] = []

        def attempt() -> None:
            ready = self._ready()
            rest = still_missing(self.work.workspace, self.work.pending, stretch)
            compute_shards(
                self.work.workspace,
                self.work.pending,
                ready,
                ready.reader,
                [rest],
                decoders=ready.decoders,
                on_images=self._check_stopped,
                on_shard=lambda report: reports.append(replace(report, worker=self.worker)),
            )

        def note(text: str) -> None:
            notices.append(f"worker {self.worker}: {text}")

        persist(attempt, achieved=lambda: len(reports), on_notice=note, pause=self._pause)
        return StretchReport(stretch, tuple(reports), tuple(notices))

    def stop(self) -> None:
        self.stopped.set()
        if self.ready is not None:
            self.ready.decoders.shutdown(wait=False, cancel_futures=True)
            self.ready.model.shutdown(wait=False)

    def _pause(self, seconds: float) -> None:
        self.stopped.wait(seconds)
        self._check_stopped(0)

    def _check_stopped(self, _images: int) -> None:
        if self.stopped.is_set():
            raise ClusterLostError("the build was ended; run again to go on")

    def _ready(self) -> _Ready:
        with self.lock:
            if self.ready is None:
                self._check_workspace()
                threads = threads_here()
                extractor = extractor_of(self.work.recipe)
                extractor = extractor.with_threads(self.work.pending[0].plan.threads)
                self._check_extractor(extractor)
                dataset = open_dataset(self.work.dataset_workspace, self.work.dataset)
                self.ready = _Ready(
                    extractor,
                    dataset.reader(self.work.images),
                    ThreadPoolExecutor(
                        self.work.threads or threads, thread_name_prefix="vfs-decode"
                    ),
                    ThreadPoolExecutor(1, thread_name_prefix="vfs-model"),
                )
            return self.ready

    def _check_workspace(self) -> None:
        for cache in self.work.pending:
            if read_plan(self.work.workspace, cache.plan.cache) != cache.plan:
                raise ClusterError(
                    f"worker {self.worker} does not find the cache that is being built in "
                    f"{self.work.workspace.url}; use a workspace that every machine sees, as s3"
                )

    def _check_extractor(self, extractor: FeatureExtractor) -> None:
        probes = probe(extractor)
        for cache in self.work.pending:
            stored = read_probe(self.work.workspace, cache.plan)
            what = f"cache {cache.plan.cache[:12]} and the model on worker {self.worker}"
            check_probe(stored, probes[cache.layer], what, cache.spec.precision)


_RUNNING: Final[dict[str, _RunningPass]] = {}
