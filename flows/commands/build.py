"""`vfs ingest`, `vfs layers`, `vfs build`: from images to a cache that can be searched."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

import catalog
from catalog import Entry
from flows.cache_names import cache_names
from flows.commands.options import json_option, model_options, threads_option
from flows.console import counted, progress_shown, say, size, write_json, write_table
from vfs_ops.canonical import check_name
from vfs_ops.errors import NotFoundError, SourceError
from vfs_ops.storage import Workspace

if TYPE_CHECKING:
    from vfs_ops.builder import PlannedCache
    from vfs_ops.sources import Source


@click.command()
@click.argument("source")
@click.option("--name", required=True, help="Name of the dataset in the catalog.")
@click.option("--labels", help="For a folder: 'folder' (names of folders; the default) or a CSV.")
@click.option("--path-column", help="For a table: the column of paths or URLs.")
@click.option("--tars", is_flag=True, help="SOURCE is a folder of tar shards (WebDataset).")
@click.option("--rehash", is_flag=True, help="Read all images again, even those unchanged.")
@threads_option
@json_option
@click.pass_obj
def ingest(
    workspace: Workspace,
    source: str,
    name: str,
    labels: str | None,
    path_column: str | None,
    tars: bool,
    rehash: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Make a dataset of images, or bring it up to date.

    SOURCE is a folder of images, a CSV or Parquet table with a column of paths or URLs, a tar
    shard (WebDataset), or torchvision:NAME. Run again, it reads only what changed.
    """
    from vfs_ops import ingestion

    check_name(name)
    chosen = _source(source, labels, path_column, tars)
    try:
        previous = catalog.open_dataset(workspace, name)
    except NotFoundError:
        previous = None
    with progress_shown() as progress:
        dataset = ingestion.ingest(
            chosen,
            workspace,
            previous=previous,
            rehash=rehash,
            threads=threads,
            progress=progress,
        )
    entry = catalog.register_dataset(workspace, name, dataset)
    if as_json:
        write_json(entry.document())
        return
    failed = entry.facts["unreadable"]
    say(
        f"dataset {name} (version {entry.version}, {dataset.id[:12]}): "
        + counted(dataset.count, "image")
        + (f", {failed} unreadable: `vfs show {name} --kind dataset` lists why" if failed else "")
    )


@click.command()
@click.argument("model")
@model_options
@json_option
def layers(model: str, weights: str | None, checkpoint: str | None, as_json: bool) -> None:
    """List the layers of MODEL and the sizes of caches.

    Listed is each layer whose output is a feature map: its cells, its channels, the pixels between
    two cells, and what a cache of 50,000 images takes.

    MODEL is efficientnet-lite0 (or 1, 2), torchvision:NAME or timm:NAME.
    """
    from vfs_ops.layers import list_layers
    from vfs_ops.models import load_model

    if weights is None and checkpoint is None:
        weights = "random:0"  # shapes do not depend on weights, which may be large to download
    found = list_layers(load_model(model, weights=weights, checkpoint=checkpoint))
    rows = [
        {
            "layer": info.name,
            "grid": "×".join(str(cells) for cells in info.grid),
            "channels": info.channels,
            "stride": "×".join(f"{pixels:g}" for pixels in info.stride),
            "50,000 images": size(info.cache_bytes(50_000)),
        }
        for info in found
    ]
    if as_json:
        write_json(
            [
                {
                    "layer": info.name,
                    "grid": info.grid,
                    "channels": info.channels,
                    "stride": info.stride,
                    "bytes_50000_images": info.cache_bytes(50_000),
                }
                for info in found
            ]
        )
    else:
        write_table(rows, right=("grid", "channels", "stride", "50,000 images"))


@click.command()
@click.argument("dataset")
@click.option("--model", required=True, help="efficientnet-lite0, torchvision:NAME, timm:NAME.")
@click.option(
    "--layer",
    "layer_names",
    multiple=True,
    required=True,
    help="As `vfs layers` lists it; may be repeated.",
)
@click.option(
    "--name",
    help="Of the cache in the catalog, for a single layer.  [default: DATASET-MODEL-LAYER]",
)
@model_options
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="How features are stored.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="How the model computes.",
)
@click.option("--device", help="As cpu or cuda:0.  [default: a GPU if there is one]")
@click.option(
    "--images",
    help="Folder or URL where the images are now, if not where they were ingested from; or "
    "torchvision:NAME.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be computed; write nothing.")
@threads_option
@json_option
@click.pass_obj
def build(
    workspace: Workspace,
    dataset: str,
    model: str,
    layer_names: tuple[str, ...],
    name: str | None,
    weights: str | None,
    checkpoint: str | None,
    dtype: str,
    precision: str,
    device: str | None,
    images: str | None,
    dry_run: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compute and keep the feature maps of DATASET.

    At one or more layers of a model, in one pass. What exists is not computed again, and an
    interrupted build goes on where it stopped.
    """
    entry = catalog.find(workspace, dataset, "dataset")
    from vfs_ops import builder
    from vfs_ops.extract import FeatureExtractor
    from vfs_ops.models import load_model
    from vfs_ops.source_kinds import TORCHVISION, as_source

    opened = catalog.open_dataset(workspace, dataset)
    extractor = FeatureExtractor(
        load_model(model, weights=weights, checkpoint=checkpoint),
        layer_names,
        precision=precision,  # type: ignore[arg-type]  # one of the choices above
        device=device,
    )
    names = cache_names(
        workspace, entry.name, extractor.specs, precision=precision, dtype=dtype, name=name
    )
    place = as_source(images) if images and images.startswith(TORCHVISION) else images
    if dry_run:
        planned = builder.plan_build(opened, extractor, dtype=dtype, images=place)  # type: ignore[arg-type]
        _report_plans(names, planned, as_json)
        return
    with progress_shown() as progress:
        caches = builder.build(
            opened,
            extractor,
            dtype=dtype,  # type: ignore[arg-type]
            images=place,
            threads=threads,
            progress=progress,
        )
    entries = [
        catalog.register_cache(workspace, cached, cache, dataset_name=entry.name)
        for cached, cache in zip(names, caches, strict=True)
    ]
    _report(entries, as_json)


def _source(text: str, labels: str | None, path_column: str | None, tars: bool) -> Source:
    from vfs_ops.folders import FolderSource
    from vfs_ops.source_kinds import as_source
    from vfs_ops.tables import TableSource
    from vfs_ops.tars import TarSource

    source = TarSource(text) if tars else as_source(text)
    if isinstance(source, FolderSource) and labels is not None:
        source = replace(source, labels=labels)
    elif labels is not None:
        raise SourceError(f"--labels is for a folder of images; {text!r} is none, so leave it out")
    if isinstance(source, TableSource):
        source = replace(source, path_column=path_column)
    elif path_column is not None:
        raise SourceError(f"--path-column is for a table; {text!r} is none, so leave it out")
    return source


def _report_plans(names: list[str], planned: list[PlannedCache], as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "layer": cache.spec.extractor.layer,
            "shards": cache.plan.shard_count,
            "finished_shards": cache.finished_shards,
            "bytes_to_write": cache.bytes_to_write,
            "codec": cache.plan.codec,
            "id": cache.spec.id,
        }
        for name, cache in zip(names, planned, strict=True)
    ]
    if as_json:
        write_json(rows)
        return
    shown = [
        {
            "cache": row["name"],
            "layer": row["layer"],
            "shards": row["shards"],
            "finished": row["finished_shards"],
            "to write": size(row["bytes_to_write"]),
            "codec": row["codec"],
            "id": row["id"][:12],
        }
        for row in rows
    ]
    write_table(shown, right=("shards", "finished", "to write"))


def _report(entries: list[Entry], as_json: bool) -> None:
    if as_json:
        write_json([entry.document() for entry in entries])
        return
    for entry in entries:
        facts = entry.facts
        say(
            f"cache {entry.name} ({entry.id[:12]}): {counted(facts['images'], 'image')}, "
            f"{size(facts['bytes'])} of features"
        )
