"""`vfs import-cache`: a cache that visualfeaturesearch wrote becomes a proper one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import catalog
from flows.cache_names import cache_names, register
from flows.commands.options import json_option, model_options
from flows.console import counted, progress_shown, say, size, write_json
from flows.patience import doing
from vfs_ops.errors import NotFoundError
from vfs_ops.identity.canonical import check_name
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.identity.preprocessing import Preprocessing


@click.command("import-cache")
@click.argument("source")
@click.argument("images")
@click.option("--dataset", required=True, help="Name of the dataset of IMAGES in the catalog.")
@click.option("--model", required=True, help="efficientnet-lite0, torchvision:NAME, timm:NAME.")
@click.option("--layer", required=True, help="As `vfs layers` lists it.")
@click.option("--name", help="Of the cache in the catalog.  [default: DATASET-MODEL-LAYER]")
@click.option("--array", help="Name of the array in SOURCE, if it holds several.")
@click.option(
    "--preprocessing",
    type=click.Choice(["reference", "model"]),
    default="reference",
    show_default=True,
    help="reference: what visualfeaturesearch does (shorter side to 256, centre 224, ImageNet's "
    "mean and deviation); model: what belongs to the weights.",
)
@model_options
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="How many images are computed again to prove the claim.",
)
@json_option
@click.pass_obj
def import_cache(
    workspace: Workspace,
    source: str,
    images: str,
    dataset: str,
    model: str,
    layer: str,
    name: str | None,
    array: str | None,
    preprocessing: str,
    weights: str | None,
    checkpoint: str | None,
    sample: int,
    as_json: bool,
) -> None:
    """Import a cache that visualfeaturesearch 1.0.0 wrote.

    SOURCE is its folder (Zarr v2), IMAGES the folder that it was computed of. A sample of the
    images is computed again: every cell must have a cosine similarity of at least 0.999 with what
    is imported, or no cache is written. The dataset of IMAGES is ingested in any case.
    """
    for given in (dataset, name):
        if given is not None:
            check_name(given)
    with doing(f"loading {model}"):
        from vfs_ops.datasets import ingestion
        from vfs_ops.models.extract import FeatureExtractor
        from vfs_ops.models.loading import load_model
        from vfs_ops.sharing import importing
        from vfs_ops.sharing.foreign_arrays import open_array
        from vfs_ops.store.locations import Folder

        chosen = _reference_preprocessing() if preprocessing == "reference" else None
        loaded = load_model(model, weights=weights, checkpoint=checkpoint, preprocessing=chosen)
        extractor = FeatureExtractor(loaded, [layer])
    [chosen_name] = cache_names(  # before hours of work
        workspace,
        dataset,
        extractor.specs,
        precision=importing.PRECISION,
        dtype=open_array(Folder.at(source), array).dtype,
        name=name,
    )
    try:
        previous = catalog.open_dataset(workspace, dataset)
    except NotFoundError:
        previous = None
    with doing("importing"), progress_shown() as progress:
        opened = ingestion.ingest(images, workspace, previous=previous, progress=progress)
        catalog.register_dataset(workspace, dataset, opened)  # whatever becomes of the claim
        cache = importing.import_cache(
            source, opened, extractor, array=array, sample=sample, progress=progress
        )
    entry = register(workspace, chosen_name, cache, dataset=dataset, given=name is not None)
    if as_json:
        write_json(entry.document())
        return
    say(
        f"cache {entry.name} ({entry.id[:12]}), imported: {counted(cache.count, 'image')}, "
        f"{size(cache.feature_bytes)} of features"
    )


def _reference_preprocessing() -> Preprocessing:
    """Return what ``visualfeaturesearch.data.net_transform`` does."""
    from vfs_ops.identity.preprocessing import Preprocessing, Resize

    return Preprocessing(
        resize=Resize("short", (256,)),
        crop=(224, 224),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
