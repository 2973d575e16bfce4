"""`vfs verify`: whether a cache is whole, and what its model computes."""

from __future__ import annotations

import click

from flows.commands.options import LocalPath, json_option, track_option
from flows.console import counted, printable, say, size, write_json
from flows.console_watcher import console_watcher
from flows.jobs.verification import VerifyJob
from flows.running import run
from vfs_ops.errors import DamagedError
from vfs_ops.store.workspace import Workspace


@click.command()
@click.argument("name")
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=32,
    show_default=True,
    help="Images to compute anew and compare; 0 needs neither model nor images.",
)
@click.option("--checkpoint", type=LocalPath(), help="For a cache made with a local checkpoint.")
@click.option("--device", help="As cpu or cuda:0.  [default: a GPU if there is one]")
@click.option("--images", help="Folder or URL where the images are now, if they were moved.")
@click.option("--cluster", help="Read there: local, cuda or the address of a Dask scheduler.")
@track_option
@json_option
@click.pass_obj
def verify(
    workspace: Workspace,
    name: str,
    sample: int,
    checkpoint: str | None,
    device: str | None,
    images: str | None,
    cluster: str | None,
    track: bool,
    as_json: bool,
) -> None:
    """Check a cache: read every shard again, and compute a sample of images anew.

    What is read must be what the receipts and the commit say was written, and what is computed must
    be the same: to the bit on the machine and with the versions it was built with, else within a
    cosine of 0.999 in every cell. Exit code 5 if it is not.
    """
    job = VerifyJob(
        workspace=workspace.url,
        cache=name,
        sample=sample,
        checkpoint=checkpoint,
        device=device,
        images=images,
        cluster=cluster,
    )
    with console_watcher() as watcher:
        try:
            verified = run(job, track=track, watcher=watcher)
        except DamagedError:
            problems = [row for table in watcher.tables for row in table.rows]
            if as_json and problems:
                write_json({"cache": name, "problems": problems})
            elif problems:
                for row in problems:
                    where = "cache" if row["shard"] is None else f"shard {row['shard']}"
                    click.echo(printable(f"{where}: {row['what']}"))
            raise
    if as_json:
        write_json({"cache": verified.cache, "shards": verified.shards, "problems": []})
        return
    say(f"whole: {counted(verified.shards, 'shard')}, {size(verified.bytes)} of features")
