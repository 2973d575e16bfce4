"""`vfs ls`, `vfs show`, `vfs verify`: what is there, what it is, whether it is whole."""

from __future__ import annotations

from typing import Any

import click

from catalog import Entry, find, list_entries
from flows.commands.options import json_option
from flows.console import printable, progress_shown, say, size, write_json, write_table
from vfs_ops.storage import Workspace


@click.command()
@click.argument("kind", required=False, type=click.Choice(["datasets", "caches"]))
@json_option
@click.pass_obj
def ls(workspace: Workspace, kind: str | None, as_json: bool) -> None:
    """List the datasets and caches of the workspace."""
    entries = list_entries(workspace)
    if as_json:
        write_json([entry.document() for entry in entries if kind in (None, f"{entry.type}s")])
        return
    datasets = [entry for entry in entries if entry.type == "dataset"]
    caches = [entry for entry in entries if entry.type == "cache"]
    if not entries:
        say(f"nothing in {workspace.url} yet; `vfs demo` or `vfs ingest` makes a start")
    if datasets and kind in (None, "datasets"):
        rows = [
            {
                "dataset": entry.name,
                "images": entry.facts.get("images"),
                "unreadable": entry.facts.get("unreadable"),
                "id": entry.id[:12],
                "created": entry.created[:10],
            }
            for entry in datasets
        ]
        write_table(rows, right=("images", "unreadable"))
    if caches and kind in (None, "caches"):
        if datasets and kind is None:
            click.echo()
        write_table([_cache_row(entry) for entry in caches], right=("images", "size"))


@click.command()
@click.argument("name")
@json_option
@click.pass_obj
def show(workspace: Workspace, name: str, as_json: bool) -> None:
    """Show all that is known of a dataset or cache: NAME, NAME@VERSION or an id."""
    entry = find(workspace, name)
    details = {**entry.document(), "facts": {**entry.facts, **_details(workspace, entry)}}
    if as_json:
        write_json(details)
        return
    for key in ("type", "name", "version", "id", "created"):
        click.echo(f"{key:>20}  {details[key]}")
    for key, value in details["facts"].items():
        _write_fact(key, value)


@click.command()
@click.argument("name")
@json_option
@click.pass_context
def verify(context: click.Context, name: str, as_json: bool) -> None:
    """Read every shard of a cache again and check it against its receipt."""
    import catalog
    from vfs_ops import verification

    cache = catalog.open_cache(context.obj, name)
    with progress_shown() as progress:
        problems = verification.verify(cache, progress=progress)
    if as_json:
        found = [{"shard": problem.shard, "what": problem.what} for problem in problems]
        write_json({"cache": cache.id, "shards": cache.shard_count, "problems": found})
    else:
        for problem in problems:
            where = "cache" if problem.shard is None else f"shard {problem.shard}"
            click.echo(printable(f"{where}: {problem.what}"))
        say(
            f"{len(problems)} problems in {cache.shard_count} shards"
            if problems
            else f"whole: {cache.shard_count} shards, {size(cache.feature_bytes)} of features"
        )
    context.exit(5 if problems else 0)


def _cache_row(entry: Entry) -> dict[str, Any]:
    facts = entry.facts
    grid = "×".join(str(cells) for cells in facts.get("grid") or [])
    return {
        "cache": entry.name,
        "model": facts.get("model"),
        "layer": facts.get("layer"),
        "cells": f"{grid}×{facts.get('channels')}",
        "images": facts.get("images"),
        "size": size(facts.get("bytes") or 0),
        "id": entry.id[:12],
        "created": entry.created[:10],
    }


def _details(workspace: Workspace, entry: Entry) -> dict[str, Any]:
    """Return what stands in the dataset or cache itself, beyond its entry."""
    if entry.type == "dataset":
        from vfs_ops.datasets import open_dataset

        table = open_dataset(workspace, entry.id).table(["uri", "label", "error"])
        labels = {
            str(count["values"].as_py()): count["counts"].as_py()
            for count in table["label"].value_counts()
        }
        failed = table.filter(table["error"].is_valid())
        failures = dict(zip(failed["uri"].to_pylist(), failed["error"].to_pylist(), strict=True))
        return {"labels": labels, "failures": failures}
    from vfs_ops.layout import read_plan, read_spec

    plan = read_plan(workspace, entry.id)
    return {
        "preprocessing": read_spec(workspace, entry.id).extractor.preprocessing.document(),
        "plan": None if plan is None else plan.document(),
    }


def _write_fact(key: str, value: Any, indent: int = 0) -> None:
    if isinstance(value, dict) and value:
        click.echo(printable(f"{' ' * indent}{key:>20}"))
        shown = list(value.items())
        for inner, item in shown[:20]:
            _write_fact(str(inner), item, indent + 4)
        if len(shown) > 20:
            click.echo(f"{' ' * indent}{'':>24}  … {len(shown) - 20} more (--json shows all)")
    else:
        click.echo(printable(f"{' ' * indent}{key:>20}  {value}"))
