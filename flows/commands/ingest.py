"""`vfs ingest`: from images to a dataset."""

from __future__ import annotations

import click

from flows.commands.options import json_option, source_options, threads_option, track_option
from flows.console import counted, say, write_json
from flows.console_watcher import console_watcher
from flows.jobs.ingestion import IngestJob
from flows.running import run
from vfs_ops.store.workspace import Workspace


@click.command()
@click.argument("source")
@click.option("--name", required=True, help="Name of the dataset in the catalog.")
@source_options
@click.option("--rehash", is_flag=True, help="Read all images again, even those unchanged.")
@threads_option
@track_option
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
    track: bool,
    as_json: bool,
) -> None:
    """Make a dataset of images, or bring it up to date.

    SOURCE is a folder of images, a CSV or Parquet table with a column of paths or URLs, a tar
    shard (WebDataset), or torchvision:NAME. Run again, it reads only what changed.
    """
    job = IngestJob(
        workspace=workspace.url,
        name=name,
        source=source,
        labels=labels,
        path_column=path_column,
        tars=tars,
        rehash=rehash,
        threads=threads,
    )
    with console_watcher() as watcher:
        entry = run(job, track=track, watcher=watcher)
    if as_json:
        write_json(entry.document())
        return
    images, failed = entry.facts["images"], entry.facts["unreadable"]
    say(
        f"dataset {name} (version {entry.version}, {entry.id[:12]}): "
        + counted(images, "image")
        + (f", {failed} unreadable: `vfs show {name} --kind dataset` lists why" if failed else "")
    )
