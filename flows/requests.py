"""Ask for a cache: it is opened where some catalog has it, and else somebody builds it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

import catalog
from catalog import Entry, Located
from catalog.lookup import Workspaces, as_workspaces
from flows import servers
from flows.jobs.building import BuildJob, ExtractorChoice
from flows.watching import Watcher
from vfs_ops.errors import AccessError, IncompleteError, NotFoundError
from vfs_ops.progress import Progress
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache
    from vfs_ops.identity.spec import CacheSpec
    from vfs_ops.models.extract import FeatureExtractor


_FAILED: Final = ("Failed", "Crashed", "Cancelled", "TimedOut")
"""Final states of a flow run that made no cache."""


class Work(Protocol):
    """A build that somebody does."""

    @property
    def where(self) -> str:
        """Who does it, in words."""

    def progress(self) -> Progress | None:
        """Return how far it is, if that is known here."""

    def wait(self, timeout: float | None) -> bool:
        """Wait until it has ended; False if time was over first. Raises what it failed with."""


@dataclass(frozen=True)
class CacheRequest:
    """A cache that was asked for: there already, or being built."""

    cache_id: str
    """Id of the cache; of the imported one, if that was found instead."""
    workspace: Workspace
    """Where it lies or will lie."""
    located: Located | None
    """Its entry, if it was there when it was asked for."""
    work: Work | None
    """The build that was started, if it was not."""

    def __repr__(self) -> str:
        state = "there" if self.work is None else f"being built by {self.work.where}"
        return f"<CacheRequest {self.cache_id[:12]} in {self.workspace.url}: {state}>"

    def progress(self) -> Progress | None:
        """Return how far the build is; None where there is none, or it is not known here."""
        return None if self.work is None else self.work.progress()

    def done(self) -> bool:
        """Tell whether the cache can be opened.

        Raises
        ------
        VfsError
            If the build failed, as `wait` does.
        """
        return self.work is None or self.work.wait(0)

    def wait(self, timeout: float | None = None) -> Cache:
        """Wait for the build, if there is one, and open the cache.

        Parameters
        ----------
        timeout
            Seconds; without end by default.

        Raises
        ------
        TimeoutError
            If time is over; the build goes on.
        VfsError
            What the build failed with. Ask again to go on: what was finished stays.
        """
        if self.work is not None and not self.work.wait(timeout):
            raise TimeoutError(
                f"cache {self.cache_id[:12]} is still being built by {self.work.where} after "
                f"{timeout:g} s; wait again"
            )
        return catalog.open(self.cache_id, self.workspace)


def request_cache(
    dataset: str,
    model: str,
    layer: str,
    *,
    workspaces: Workspaces | None = None,
    weights: str | None = None,
    checkpoint: str | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    images: str | None = None,
    name: str | None = None,
) -> CacheRequest:
    """Look for a cache in one catalog or several; where it is missing, start the build of it.

    The cache that is meant is known exactly: the model is loaded, and its weights, with the layer,
    the preprocessing and the images, give the id. An imported cache of the same features counts.

    A missing cache is built in the first workspace: by the deployment where a Prefect server is
    configured, else by a thread of this process, which ends with the process. A build that was
    interrupted goes on when the cache is asked for again.

    Parameters
    ----------
    dataset
        Name, ``name@version``, ``name@alias`` or id of a dataset.
    model, layer, weights, checkpoint
        As `vfs build` takes them.
    workspaces
        Where to look, first the one to build in; see `catalog.open`.
    dtype, precision
        How features are stored, and how the model computes.
    images
        Where the images are now, if not where they were ingested from.
    name
        Of the cache in the catalog, if it is built.

    Returns
    -------
    CacheRequest
        What to wait for.

    Raises
    ------
    NotFoundError
        If no catalog has the dataset, or the workspace to build in lacks it.
    UnknownModelError, NotAFeatureMapError, CheckpointError
        If the model or layer cannot be used.
    AccessError
        If it is missing, and the first workspace can only be read.
    UnavailableError
        If the configured Prefect server does not answer.

    Examples
    --------
    >>> request = request_cache("photos", "timm:resnet50", "layer4")    # doctest: +SKIP
    >>> cache = request.wait()                                          # doctest: +SKIP
    """
    places = as_workspaces(workspaces)
    images_of = catalog.locate(places, dataset, "dataset")
    spec = _spec(images_of.entry, model, layer, weights, checkpoint, dtype, precision)
    found = _look(places, spec)
    if found is not None:
        found.warn()
        return CacheRequest(found.entry.id, found.workspace, found, None)
    target = places[0]
    if not target.writable:
        raise AccessError(
            f"no catalog has {layer} of {model} for {dataset}, and {target.url} is read-only; give "
            "a workspace to build in first"
        )
    if images_of.workspace != target:
        raise NotFoundError(
            f"no catalog has {layer} of {model} for {dataset}, and that dataset lies in "
            f"{images_of.workspace.url}; mirror it to {target.url} to build there"
        )
    choice = ExtractorChoice(model=model, layers=(layer,), weights=weights, checkpoint=checkpoint)
    job = BuildJob(
        workspace=target.url,
        dataset=images_of.entry.reference,  # what was asked for, not what may be newest by then
        extractors=(choice,),
        name=name,
        dtype=dtype,
        precision=precision,
        images=images,
    )
    return CacheRequest(spec.id, target, None, _start(job))


def _spec(
    dataset: Entry,
    model: str,
    layer: str,
    weights: str | None,
    checkpoint: str | None,
    dtype: Literal["float16", "float32"],
    precision: Literal["float32", "bfloat16", "float16"],
) -> CacheSpec:
    from vfs_ops.identity.spec import CacheSpec
    from vfs_ops.models.extract import FeatureExtractor
    from vfs_ops.models.loading import load_model

    loaded = load_model(model, weights=weights, checkpoint=checkpoint)
    extractor: FeatureExtractor = FeatureExtractor(loaded, [layer], precision=precision)
    return CacheSpec(dataset.facts["images_id"], extractor.specs[0], precision, dtype)


def _look(places: Iterable[Workspace], spec: CacheSpec) -> Located | None:
    """Find the cache, or an imported one of the same features; the first place counts."""
    for workspace in places:
        contents = catalog.read_contents(workspace)
        fitting = [entry for entry in contents.versions if _is_wanted(entry, spec)]
        if fitting:
            exact = [entry for entry in fitting if entry.id == spec.id]
            entry = (exact or fitting)[-1]
            return Located(workspace, entry, contents.deprecations.get(entry.key))
    return None


def _is_wanted(entry: Entry, spec: CacheSpec) -> bool:
    if entry.type != "cache":
        return False
    facts, recipe = entry.facts, entry.facts["recipe"]
    imported = (
        str(facts["origin"]).startswith("imported:")
        and facts["extractor_id"] == spec.extractor.id
        and recipe.get("images") == spec.images
        and facts["dtype"] == spec.dtype
    )
    return entry.id == spec.id or imported


def _start(job: BuildJob) -> Work:
    address = servers.configured()
    if address is None:
        return _BuildHere(job)
    servers.check_answers(address)
    return _BuildThere(job)


class _Progress(Watcher):
    """Keeps what a build told last."""

    def __init__(self) -> None:
        self.latest: Progress | None = None

    def progress(self, progress: Progress) -> None:
        self.latest = progress


class _BuildHere:
    """A build by a thread of this process."""

    where = "a thread of this process"

    def __init__(self, job: BuildJob) -> None:
        self._watcher = _Progress()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(job,), name="vfs-build")
        self._thread.daemon = True  # a process that ends does not wait; asking again goes on
        self._thread.start()

    def progress(self) -> Progress | None:
        return self._watcher.latest

    def wait(self, timeout: float | None) -> bool:
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        if self._error is not None:
            raise self._error
        return True

    def _run(self, job: BuildJob) -> None:
        try:
            job.run(self._watcher)
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            self._error = error


class _BuildThere:
    """A build by the deployment at the configured server."""

    def __init__(self, job: BuildJob) -> None:
        from flows.tracked.submitting import submit

        self._submitted = submit(job)
        self._completed = False
        self.where = f"flow run {self._submitted.name} ({self._submitted.url})"

    def progress(self) -> Progress | None:
        return None  # the server's pages show it

    def wait(self, timeout: float | None) -> bool:
        state = "Completed" if self._completed else self._submitted.wait(timeout)
        self._completed = state == "Completed"
        if state in _FAILED:
            raise IncompleteError(
                f"{self.where} ended as {state}; its page tells why; ask again to go on"
            )
        return self._completed
