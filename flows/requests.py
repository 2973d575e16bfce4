"""Ask for a cache: it is opened where some catalog has it, and else somebody builds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import catalog
from catalog import Entry, Located
from catalog.lookup import Workspaces, as_workspaces
from flows.cache_names import cache_names, register
from flows.jobs.building import BuildJob, ExtractorChoice
from flows.requested_builds import Work, start
from vfs_ops.errors import AccessError, NotFoundError
from vfs_ops.progress import Progress
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache
    from vfs_ops.identity.spec import CacheSpec
    from vfs_ops.models.extract import FeatureExtractor


@dataclass(frozen=True)
class CacheRequest:
    """A cache that was asked for: there already, or being built."""

    cache_id: str
    """Id of the cache; of the imported one, if that was found instead."""
    workspace: Workspace
    """Where it lies or will lie."""
    dataset: Located
    """The dataset that was asked for, with whose labels and metadata the cache is opened."""
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
        return _open(self.workspace, self.cache_id, self.dataset)


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
    Where a cache of the same images is shown with other labels, nothing is computed: it is
    registered with those that were asked for, if it and they lie in one workspace that can be
    written, and opened with them in any case.

    A missing cache is built in the first workspace: by the deployment where a Prefect server is
    configured, else by a thread of this process, which ends with the process. The deployment's own
    parameters say where it computes. Who asks for the same while its flow run or thread is under
    way waits for that one. A build that was interrupted goes on when the cache is asked for again.

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
        Of the cache in the catalog, if it is built or registered.

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
    NameTakenError
        If `name` is given, needed, and stands for something else.
    UnavailableError
        If the configured Prefect server does not answer.
    MismatchError
        If it refuses the run.

    Examples
    --------
    >>> request = request_cache("photos", "timm:resnet50", "layer4")    # doctest: +SKIP
    >>> cache = request.wait()                                          # doctest: +SKIP
    """
    places = as_workspaces(workspaces)
    images_of = catalog.locate(places, dataset, "dataset")
    spec = _spec(images_of.entry, model, layer, weights, checkpoint, dtype, precision)
    found = _look(places, spec, images_of.entry.id)
    if found is not None:
        found = _shown_with(found, images_of, name)
        found.warn()
        return CacheRequest(found.entry.id, found.workspace, images_of, found, None)
    target = places[0]
    if not target.writable:
        raise AccessError(
            f"no catalog has {layer} of {model} for {dataset}, and {target.url} is read-only; give "
            "a workspace to build in first"
        )
    if images_of.workspace != target:
        raise NotFoundError(
            f"no catalog has {layer} of {model} for {dataset}, and that dataset lies in "
            f"{images_of.workspace.url}; mirror it to {target.url} to build there: "
            f"vfs mirror {images_of.entry.reference} --kind dataset --from "
            f"{images_of.workspace.url} --to {target.url}"
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
    return CacheRequest(spec.id, target, images_of, None, start(job, spec.id))


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


def _look(places: Sequence[Workspace], spec: CacheSpec, dataset_id: str) -> Located | None:
    """Find the cache, or an imported one of the same features; the first place counts.

    One that is shown with the dataset counts before all that are shown with others.
    """
    first = None
    for located in _fitting(places, spec):
        if located.entry.meaning[1] == dataset_id:
            return located
        first = first or located
    return first


def _fitting(places: Sequence[Workspace], spec: CacheSpec) -> Iterator[Located]:
    """Yield entries of the features: by place, computed before imported, newest first."""
    for workspace in places:
        contents = catalog.read_contents(workspace)
        fitting = [entry for entry in reversed(contents.versions) if _is_wanted(entry, spec)]
        for entry in sorted(fitting, key=lambda entry: entry.id != spec.id):
            yield Located(workspace, entry, contents.deprecations.get(entry.key))


def _shown_with(found: Located, dataset: Located, name: str | None) -> Located:
    """Register a cache with the labels that were asked for, where it is not and can be."""
    workspace, entry = found.workspace, found.entry
    if (
        entry.meaning[1] == dataset.entry.id
        or not workspace.writable
        or dataset.workspace != workspace
    ):
        return found
    cache = _open(workspace, entry.id, dataset)
    [chosen] = cache_names(
        workspace,
        dataset.entry.name,
        [cache.spec.extractor],
        precision=cache.spec.precision,
        dtype=cache.spec.dtype,
        name=name,
    )
    try:
        made = register(
            workspace, chosen, cache, dataset=dataset.entry.name, given=name is not None
        )
    except AccessError:  # who may only read can open it all the same
        return found
    return Located(workspace, made, found.deprecation)


def _open(workspace: Workspace, cache_id: str, dataset: Located) -> Cache:
    from vfs_ops.caches.cache import open_cache
    from vfs_ops.datasets.dataset import open_dataset

    return open_cache(workspace, cache_id, open_dataset(dataset.workspace, dataset.entry.id))


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
