"""Make a proper cache of one that ``visualfeaturesearch`` 1.0.0 wrote, if it is what is claimed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numcodecs import Zstd
from numpy.typing import NDArray

from vfs_ops.builds.claims import held
from vfs_ops.builds.planning import WORTHWHILE_RATIO, library_versions
from vfs_ops.caches.cache import Cache, open_cache
from vfs_ops.caches.commits import commit, read_commit
from vfs_ops.caches.completeness import finished_shards
from vfs_ops.caches.layout import begin, write_receipt, write_shard
from vfs_ops.caches.plans import Plan, choose_sizes
from vfs_ops.caches.receipts import Receipt
from vfs_ops.caches.values import to_stored
from vfs_ops.errors import ExtractorMismatchError, ImageError, MismatchError, SpecError
from vfs_ops.identity.spec import NULL_DIGEST, CacheSpec, shard_inputs
from vfs_ops.models.closeness import MIN_COSINE, lowest_cosine
from vfs_ops.models.probe import probe
from vfs_ops.progress import Progress, ProgressCallback, silent
from vfs_ops.sharing.foreign_arrays import ForeignArray, open_array
from vfs_ops.store.locations import Folder
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.datasets.dataset import Dataset, ImageReader
    from vfs_ops.models.extract import FeatureExtractor

PRECISION: Final = "unknown"
"""How the features were computed: nobody has written it down."""
SAMPLE_IMAGES: Final = 16
"""Images that are computed again."""
MAX_NORM_CHANGE: Final = 0.05
"""Largest relative difference of the norms of the cells of these images."""

_FAINT: Final = 0.01  # of the mean norm: below, a cell is rounding noise and has no direction
_UNREADABLE: Final = "the image could not be read when it was ingested"
_NOT_FINITE: Final = "the imported features of this image are not finite, or too large"


def import_cache(
    source: str | os.PathLike[str],
    dataset: Dataset,
    extractor: FeatureExtractor,
    *,
    array: str | None = None,
    workspace: Workspace | None = None,
    images: Any = None,
    sample: int = SAMPLE_IMAGES,
    progress: ProgressCallback = silent,
) -> Cache:
    """Import the features that ``visualfeaturesearch`` 1.0.0 computed of a dataset's images.

    A sample of the images is computed again by `extractor`, and every cell of it must have a cosine
    similarity of at least 0.999 (`vfs_ops.models.closeness.MIN_COSINE`) with what is to be
    imported, and its norm must be within `MAX_NORM_CHANGE`. Only then anything is written. The
    features are kept bit for bit, in the dtype they have; the precision they were computed in is
    unknown. Run again after an interruption, it goes on where it stopped.

    The reference ignores the orientation in EXIF: photos that have one are other images to it, and
    if the sample holds one, the import is refused.

    Parameters
    ----------
    source
        Folder or URL of the Zarr v2 directory.
    dataset
        Of the same images. Their order in the array is that of the reference's ``SimpleDataset``
        (file names), or of torchvision's ``ImageFolder`` (classes, then folders, then file names)
        where they lie in folders; see `reference_order`.
    extractor
        The model, its preprocessing, and the one layer that the features are claimed to be of.
    array
        Name of the array in the directory, if it holds several.
    workspace
        Where the cache shall lie; the dataset's by default.
    images
        Where the images are, if not where they were ingested from; see `Dataset.reader`.
    sample
        Images to compute again.
    progress
        Told of chunks digested and of images imported.

    Returns
    -------
    Cache
        Marked by its ``spec.origin``: ``imported:`` and the digest of what was imported.

    Raises
    ------
    MismatchError
        If the array does not have the dataset's images, or the layer's channels and cells.
    ExtractorMismatchError
        If the features are not those of the layer; the message holds the measured numbers.
    UnsafeMetadataError, DamagedError, IncompleteError
        If the array cannot be read.
    StorageError
        If the storage fails; run again to go on.
    """
    if len(extractor.specs) != 1 or sample < 1:
        raise SpecError(
            f"{len(extractor.specs)} layers and a sample of {sample} images are given; a cache "
            "holds one layer, and one image at least must be computed again"
        )
    workspace = workspace or dataset.workspace
    found = open_array(Folder.at(os.fspath(source)), array)
    info = extractor.infos[0]
    expected = (dataset.count, info.channels, *info.grid)
    if found.shape != expected:
        raise MismatchError(
            f"the array has shape {found.shape} (image, channel, y, x); layer {info.name} of "
            f"{extractor.model.reference} gives {expected} for the {dataset.count} images of "
            f"dataset {dataset.id[:12]}; give the images, model and layer that it came from"
        )
    digest = found.digest(progress)
    spec = CacheSpec(
        dataset.images_id, extractor.specs[0], PRECISION, found.dtype, f"imported:{digest}"
    )
    if read_commit(workspace, spec.id) is None:
        uris = dataset.table(["uri"])["uri"].to_pylist()
        positions = _positions(reference_order(uris))
        features = _Features(found, positions, dataset)
        reader = dataset.reader(images)
        sampled = _check_sample(features, extractor, reader, uris, sample, int(digest[:16], 16))
        plan, probed = _plan(spec, dataset, extractor, sampled), probe(extractor)[0]
        with held(workspace, [spec.id]):  # so that nobody takes it for abandoned
            plan = begin(workspace, spec, plan, probed)
            _write_shards(workspace, spec, plan, features, progress)
            commit(workspace, plan)
    return open_cache(workspace, spec.id, dataset)


def reference_order(uris: Sequence[str]) -> list[int]:
    """Return the rows of a dataset in the order in which the reference's datasets have them.

    Images beside each other come by file name. Images in folders come as torchvision's
    ``ImageFolder`` sorts them: by class (the first folder), by the whole folder, by file name.

    Examples
    --------
    >>> reference_order(["a-b/1.png", "a/2.png"])
    [1, 0]
    """

    def place(row: int) -> tuple[str, str, str]:
        folder, _, name = uris[row].rpartition("/")
        return folder.partition("/")[0], folder, name

    return sorted(range(len(uris)), key=place)


def _positions(order: Sequence[int]) -> NDArray[np.int64]:
    """Return, for every row of the dataset, its position in the array."""
    positions = np.empty(len(order), np.int64)
    positions[np.asarray(order, np.int64)] = np.arange(len(order))
    return positions


class _Features:
    """The foreign features by rows of the dataset."""

    def __init__(self, array: ForeignArray, positions: NDArray[np.int64], dataset: Dataset) -> None:
        self._array, self._positions = array, positions
        self.digests = dataset.digests()
        self.readable = (self.digests != np.frombuffer(NULL_DIGEST, np.uint8)).any(axis=1)
        """Shape (row,), bool: which images could be read when they were ingested."""

    def readable_rows(self) -> NDArray[np.int64]:
        """Return the rows of readable images, in the order of the array."""
        order = np.argsort(self._positions)
        rows: NDArray[np.int64] = order[self.readable[order]]
        return rows

    def read(self, rows: Sequence[int]) -> NDArray[np.floating]:
        """Return the features of rows, shape (image, y, x, channel)."""
        return self._array.read(self._positions[np.asarray(rows, np.int64)].tolist())


def _check_sample(
    features: _Features,
    extractor: FeatureExtractor,
    reader: ImageReader,
    uris: Sequence[str],
    count: int,
    seed: int,
) -> NDArray[np.floating]:
    """Compute some images again; returns the imported features of those.

    The array's first and last image are among them: an array that was not filled to its end holds
    zeros there.
    """
    readable = features.readable_rows()
    if not len(readable):
        raise MismatchError("none of the dataset's images can be read, so nothing can be proved")
    others = np.random.default_rng(seed).permutation(readable[1:-1])[: max(count - 2, 0)]
    rows = sorted({int(readable[0]), int(readable[-1]), *others.tolist()})
    pixels, kept = [], []
    for row in rows:
        try:
            pixels.append(extractor.prepare(reader.read(row)))
        except ImageError:
            continue  # too thin to be resized; the others tell
        kept.append(row)
    if not kept:
        raise MismatchError(f"none of {len(rows)} images tried can be prepared; give others")
    theirs = features.read(kept)
    ours = extractor.features(np.stack(pixels))[0]
    cosine = np.array(
        [lowest_cosine(ours[at : at + 1], theirs[at : at + 1]) for at in range(len(kept))]
    )
    change = np.array([_norm_change(*pair) for pair in zip(ours, theirs, strict=True)])
    wrong = (cosine < MIN_COSINE) | (change > MAX_NORM_CHANGE)
    if wrong.any():
        worst = int(np.argmin(cosine))
        raise ExtractorMismatchError(
            f"the features are not those of layer {extractor.infos[0].name} of "
            f"{extractor.model.reference} ({extractor.model.weights}): of {len(kept)} images "
            f"computed again, {int(wrong.sum())} differ; lowest cosine of a cell "
            f"{cosine[worst]:.4f} ({uris[kept[worst]]!r}), expected at least {MIN_COSINE}; "
            f"norms differ by up to {change.max():.1%}, expected at most {MAX_NORM_CHANGE:.0%}; "
            "give the model, weights, layer, preprocessing and images that they came from"
        )
    return theirs


def _norm_change(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Return the largest relative difference of the norms of an image's cells; faint ones apart."""
    norms, others = (np.linalg.norm(each.astype(np.float64), axis=-1) for each in (ours, theirs))
    larger = np.maximum(norms, others)
    clear = larger > _FAINT * norms.mean()
    if not np.isfinite(larger).all():
        return float("inf")
    return float((np.abs(norms - others)[clear] / larger[clear]).max(initial=0.0))


def _plan(
    spec: CacheSpec, dataset: Dataset, extractor: FeatureExtractor, sampled: NDArray[np.floating]
) -> Plan:
    info = extractor.infos[0]
    image_bytes = sampled[0].nbytes
    per_shard, per_chunk, batch_size = choose_sizes(image_bytes)
    raw = np.ascontiguousarray(sampled).tobytes()
    ratio = round(len(raw) / len(Zstd(level=1).encode(raw)), 3)
    return Plan(
        cache=spec.id,
        dataset=dataset.id,
        images=dataset.count,
        grid=info.grid,
        channels=info.channels,
        dtype=spec.dtype,
        images_per_shard=per_shard,
        images_per_chunk=per_chunk,
        batch_size=batch_size,
        codec="zstd" if ratio >= WORTHWHILE_RATIO else "none",
        sample_ratio=ratio,
        weights=extractor.model.weights,
        versions=library_versions(),
    )


def _write_shards(
    workspace: Workspace,
    spec: CacheSpec,
    plan: Plan,
    features: _Features,
    progress: ProgressCallback,
) -> None:
    finished = finished_shards(workspace, plan)
    for shard in range(plan.shard_count):
        rows = plan.shard_rows(shard)
        if shard not in finished:
            started = time.monotonic()
            maps = features.read(rows)
            reasons = {row: _UNREADABLE for row in rows if not features.readable[row]}
            maps[[row - rows.start for row in reasons]] = 0
            stored, finite = to_stored(maps.astype(np.float32, copy=False), plan.dtype)
            reasons |= {rows.start + int(at): _NOT_FINITE for at in np.flatnonzero(~finite)}
            digests = (digest.tobytes() for digest in features.digests[rows.start : rows.stop])
            receipt = Receipt(
                **write_shard(workspace, plan, shard, stored, reasons).fields,
                inputs=shard_inputs(spec, digests),
                seconds=round(time.monotonic() - started, 3),
                host=socket.gethostname(),
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            write_receipt(workspace, spec.id, receipt)
        progress(Progress("import", rows.stop, plan.images, "images"))
