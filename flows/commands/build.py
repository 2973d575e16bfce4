"""`vfs layers`, `vfs build`: from a dataset to caches that can be searched."""

from __future__ import annotations

from typing import Any

import click

from flows.commands.options import (
    SizeText,
    json_option,
    model_options,
    source_options,
    threads_option,
    track_option,
)
from flows.console import counted, say, size, write_json, write_table
from flows.console_watcher import console_watcher
from flows.jobs.build_tables import plan_table
from flows.jobs.building import BuildJob, ExtractorChoice
from flows.patience import doing
from flows.running import run
from vfs_ops.errors import InputError
from vfs_ops.store.workspace import Workspace


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
    if weights is None and checkpoint is None:
        weights = "random:0"  # shapes do not depend on weights, which may be large to download
    with doing(f"loading {model}"):
        from vfs_ops.models.layers import list_layers
        from vfs_ops.models.loading import load_model

        loaded = load_model(model, weights=weights, checkpoint=checkpoint)
    with doing(f"running {model} once"):
        found = list_layers(loaded)
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
    "--also",
    multiple=True,
    nargs=2,
    metavar="MODEL LAYER[,LAYER…]",
    help="Another model, with its best weights; may be repeated.",
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
@click.option(
    "--source",
    help="Ingest this first as DATASET, so that new images are built too; with the same --labels, "
    "--path-column and --tars as `vfs ingest` was given.",
)
@source_options
@click.option(
    "--cluster",
    default="local",
    show_default=True,
    help="local (processes of this machine), cuda (one for each GPU), or the address of a Dask "
    "scheduler.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes of a local cluster.")
@click.option(
    "--quota", type=SizeText(), help="Refuse to write more than this, as 200GiB or 500GB."
)
@click.option(
    "--check",
    type=click.Choice(["sizes", "digests"]),
    default="sizes",
    show_default=True,
    help="How finished caches are looked at first: digests reads them, and computes 32 images "
    "anew, to repair what `vfs verify` finds.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be computed; write nothing.")
@threads_option
@track_option
@json_option
@click.pass_obj
def build(
    workspace: Workspace,
    /,
    model: str,
    layer_names: tuple[str, ...],
    also: tuple[tuple[str, str], ...],
    weights: str | None,
    checkpoint: str | None,
    dry_run: bool,
    track: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compute and keep the feature maps of DATASET.

    At one or more layers of a model, in one pass. What exists is not computed again, and an
    interrupted build goes on where it stopped. What is new is verified before it is registered.
    """
    chosen = [
        ExtractorChoice(model=model, layers=layer_names, weights=weights, checkpoint=checkpoint),
        *(ExtractorChoice(model=other, layers=tuple(layers.split(","))) for other, layers in also),
    ]
    job = BuildJob(workspace=workspace.url, extractors=tuple(chosen), **options)
    if dry_run:
        if job.check == "digests":
            raise InputError("--dry-run reads no digests; `vfs verify` names what is damaged")
        _report_plan(job, as_json)
        return
    with console_watcher() as watcher:
        built = run(job, track=track, watcher=watcher)
    if as_json:
        write_json([entry.document() for entry in built.entries])
        return
    for entry in built.entries:
        facts = entry.facts
        say(
            f"cache {entry.name} ({entry.id[:12]}): {counted(facts['images'], 'image')}, "
            f"{size(facts['bytes'])} of features"
        )
    say(f"computed {counted(built.computed_shards, 'shard')}")


def _report_plan(job: BuildJob, as_json: bool) -> None:
    with doing("plan"):
        prepared = job.prepare()
    if as_json:
        write_json(
            [
                {
                    "name": name,
                    "layer": cache.spec.extractor.layer,
                    "shards": cache.plan.shard_count,
                    "finished_shards": cache.finished_shards,
                    "copied_shards": cache.copied_shards,
                    "bytes_to_write": cache.bytes_to_write,
                    "worker_memory": cache.worker_memory,
                    "codec": cache.plan.codec,
                    "id": cache.spec.id,
                }
                for name, cache in zip(prepared.names, prepared.planned, strict=True)
            ]
        )
    else:
        table = plan_table(prepared.dataset_name, prepared.names, prepared.planned)
        write_table(
            table.rows,
            right=("shards", "finished", "to copy", "to write", "memory"),
        )
        say(table.title)
    job.check_capacity(prepared)
