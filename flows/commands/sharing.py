"""`vfs find`, `describe`, `alias`, `deprecate`, `publish`: the catalog as a team shares it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import click

import catalog
from catalog.about import About, Licences, Status
from catalog.entries import EntryType
from flows.commands.options import json_option, kind_option, track_option
from flows.commands.search import parse_condition
from flows.console import counted, say, shortened, size, write_json, write_table
from flows.console_watcher import console_watcher
from flows.jobs.publishing import PublishJob
from flows.running import run
from vfs_ops.store.workspace import Workspace

_LICENCES = ("images", "weights", "features")
_SHOWN = ("type", "name", "version", "status", "model", "layer", "dataset", "images", "owner")


@click.command()
@click.argument("words", nargs=-1)
@click.option(
    "--where",
    multiple=True,
    metavar="FIELD=VALUE",
    help="As layer=layer4, images>10000, aliases~team-default (contains); may be repeated.",
)
@click.option("--also", multiple=True, metavar="WORKSPACE", help="Another catalog, searched too.")
@click.option("--all-versions", is_flag=True, help="Older versions too.")
@json_option
@click.pass_obj
def find(
    workspace: Workspace,
    words: tuple[str, ...],
    where: tuple[str, ...],
    also: tuple[str, ...],
    all_versions: bool,
    as_json: bool,
) -> None:
    """Find datasets and caches by their fields, or by WORDS in any of their texts."""
    filters = [parse_condition(text) for text in where]
    found = catalog.find_all(
        [workspace, *also], filters, " ".join(words), all_versions=all_versions
    )
    rows = json.loads(found.to_json(orient="records"))
    if as_json:
        write_json(rows)
        return
    shown = [{name: shortened(row[name] or "") for name in _SHOWN} for row in rows]
    if also:
        shown = [
            {**cells, "workspace": row["workspace"]}
            for cells, row in zip(shown, rows, strict=False)
        ]
    write_table(shown, right=("version", "images"))
    say("1 entry found" if len(rows) == 1 else f"{len(rows)} entries found")


@click.command()
@click.argument("name")
@click.argument("alias")
@click.argument("version", type=click.IntRange(min=1))
@kind_option
@click.pass_obj
def alias(workspace: Workspace, name: str, alias: str, version: int, kind: EntryType) -> None:
    """Let NAME@ALIAS be version VERSION of NAME from now on."""
    say(catalog.set_alias(workspace, kind, name, alias, version).sentence())


@click.command()
@click.argument("reference")
@click.option("--reason", required=True, help="Why it should not be used any more.")
@click.option("--successor", help="What to use instead, as NAME or NAME@VERSION.")
@kind_option
@click.pass_obj
def deprecate(
    workspace: Workspace, reference: str, reason: str, successor: str | None, kind: EntryType
) -> None:
    """Warn whoever opens REFERENCE (NAME or NAME@VERSION) from now on. It stays as it is."""
    mark = catalog.deprecate(workspace, kind, reference, reason=reason, successor=successor)
    say(mark.sentence())


@click.command()
@click.argument("name")
@click.option("--owner", help="Person or team to ask.")
@click.option("--description", help="In a few sentences.")
@click.option("--status", type=click.Choice(get_args(Status)), help="draft: not to be relied on.")
@click.option("--split", help="Which part of a dataset: train, val, …")
@click.option("--citation", help="How to cite it.")
@click.option("--licence-images", help="As CC-BY-4.0.")
@click.option("--licence-weights", help="As Apache-2.0.")
@click.option("--licence-features", help="As CC0-1.0.")
@kind_option
@click.pass_obj
def describe(workspace: Workspace, /, name: str, kind: EntryType, **said: str | None) -> None:
    """Say what only people know of NAME; what is not given stays as it is.

    Writes a new version of the entry, unless it says so already.
    """
    about = About.of(catalog.find(workspace, name, kind).about)
    given = {key: value for key, value in said.items() if value is not None}
    terms = {key: given.pop(f"licence_{key}", getattr(about.licences, key)) for key in _LICENCES}
    about = replace(about, **given, licences=Licences(**terms))  # type: ignore[arg-type]
    entry = catalog.describe(workspace, kind, name, about)
    say(f"{kind} {entry.reference} says so")


@click.command()
@click.option("--url", help="Where people reach the workspace, if not where they find the page.")
@click.option("--without-previews", is_flag=True, help="For images that may not be shown.")
@track_option
@click.pass_obj
def publish(workspace: Workspace, url: str | None, without_previews: bool, track: bool) -> None:
    """Write a page beside the catalog's index, on which people browse the caches."""
    job = PublishJob(workspace=workspace.url, url=url, previews=not without_previews)
    with console_watcher() as watcher:
        published = run(job, track=track, watcher=watcher)
    say(
        f"{workspace.url}/{published.key}: {counted(published.caches, 'cache')} of "
        f"{counted(published.datasets, 'dataset')}, {size(published.bytes)}"
    )
