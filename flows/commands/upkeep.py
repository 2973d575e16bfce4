"""`vfs mirror`, `vfs prune`: copies of caches, and what nobody needs any more."""

from __future__ import annotations

import click

from catalog.entries import EntryType
from flows.commands.options import json_option, kind_option, track_option
from flows.console import counted, say, size, write_json, write_table
from flows.console_watcher import console_watcher
from flows.jobs.mirroring import MirrorJob
from flows.jobs.pruning import PruneJob
from flows.running import run
from vfs_ops.errors import InputError
from vfs_ops.store.workspace import Workspace


@click.command()
@click.argument("name")
@kind_option
@click.option("--from", "source", help="Workspace that has NAME; it is copied to this one.")
@click.option("--to", "target", help="Workspace that shall have NAME of this one.")
@click.option("--without-previews", is_flag=True, help="Leave out the previews of the images.")
@click.option("--repair", is_flag=True, help="Read again what is there; replace what is damaged.")
@track_option
@json_option
@click.pass_obj
def mirror(
    workspace: Workspace,
    name: str,
    kind: EntryType,
    source: str | None,
    target: str | None,
    without_previews: bool,
    repair: bool,
    track: bool,
    as_json: bool,
) -> None:
    """Copy cache NAME with its dataset and entries --from or --to another workspace.

    With --kind dataset, a dataset alone, as to build caches of it there. What is copied is checked
    by its digests; run again, it goes on where it stopped.
    """
    if (source is None) == (target is None):
        raise InputError("give the other workspace as either --from URL or --to URL")
    job = MirrorJob(
        workspace=Workspace.at(source).url if source else workspace.url,
        target=Workspace.at(target).url if target else workspace.url,
        name=name,
        kind=kind,
        previews=not without_previews,
        repair=repair,
    )
    with console_watcher() as watcher:
        mirrored = run(job, track=track, watcher=watcher)
    if as_json:
        write_json(mirrored.entry.document())
        return
    say(
        f"{kind} {mirrored.entry.name} is in {job.target}: "
        f"{counted(mirrored.copied_objects, 'object')} copied ({size(mirrored.copied_bytes)}), "
        f"{mirrored.kept_objects} there before"
    )


@click.command()
@click.option("--remove", is_flag=True, help="Remove what is listed.")
@track_option
@json_option
@click.pass_obj
def prune(workspace: Workspace, remove: bool, track: bool, as_json: bool) -> None:
    """List what no entry refers to and no build owns; --remove removes it, and nothing else."""
    with console_watcher() as watcher:
        pruned = run(PruneJob(workspace=workspace.url, remove=remove), track=track, watcher=watcher)
    if as_json:
        removed = {found.key for found in pruned.removed}
        write_json(
            [
                {
                    "kind": found.kind,
                    "key": found.key,
                    "bytes": found.bytes,
                    "objects": found.objects,
                    "reason": found.reason,
                    "removed": found.key in removed,
                }
                for found in pruned.unused
            ]
        )
        return
    write_table(watcher.tables[-1].rows, right=("size", "objects"))
    freed = size(sum(found.bytes for found in pruned.removed))
    for found, reason in pruned.kept:
        say(f"kept {found.key}: {reason}")
    if remove:
        say(f"removed {counted(len(pruned.removed), 'thing')}, {freed}")
    else:
        say(watcher.tables[-1].title + ("; --remove removes it" if pruned.unused else ""))
        say("left alone: what was written within a day, and what somebody is building")
    if pruned.unknown:
        say(f"not touched: {counted(pruned.unknown, 'file')} that vfs did not write")
