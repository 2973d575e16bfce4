"""`vfs ls`, `vfs show`: what is there, and what it is."""

from __future__ import annotations

from typing import Any, Final, TypeGuard, cast, get_args

import click

import catalog
from catalog import Entry
from catalog.entries import EntryType
from flows.commands.options import json_option
from flows.console import (
    printable,
    say,
    shortened,
    size,
    write_json,
    write_table,
)
from vfs_ops.store.workspace import Workspace

_UNSAID: Final = ("", None)


@click.command()
@click.argument("kind", required=False, type=click.Choice(["datasets", "caches"]))
@json_option
@click.pass_obj
def ls(workspace: Workspace, kind: str | None, as_json: bool) -> None:
    """List the datasets and caches of the workspace."""
    contents = catalog.read_contents(workspace)
    for problem in contents.problems:
        say(f"left out: {problem}")
    entries = [entry for entry in contents.entries if kind in (None, f"{entry.type}s")]
    if as_json:
        write_json([entry.document() for entry in entries])
        return
    if not entries and not contents.problems:
        start = "`vfs build` makes one" if kind == "caches" else "`vfs demo` or `vfs ingest` begins"
        say(f"no {kind or 'datasets or caches'} in {workspace.url} yet; {start}")
    datasets = [_dataset_row(entry) for entry in entries if entry.type == "dataset"]
    caches = [_cache_row(entry) for entry in entries if entry.type == "cache"]
    write_table(datasets, right=("images", "unreadable"))
    if datasets and caches:
        click.echo()
    write_table(caches, right=("images", "size"))


@click.command()
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(get_args(EntryType)), help="If NAME is both a dataset and a cache."
)
@json_option
@click.pass_obj
def show(workspace: Workspace, name: str, kind: EntryType | None, as_json: bool) -> None:
    """Show all that is known of a dataset or cache.

    NAME is a name, NAME@VERSION, NAME@ALIAS, an id, or the first six or more digits of one.
    """
    located = catalog.locate(workspace, name, kind)
    entry, deprecation = located.entry, located.deprecation
    aliases = catalog.read_contents(workspace).aliases.get((entry.type, entry.name), {})
    details = {
        **entry.document(),
        "aliases": [name for name, alias in aliases.items() if alias.version == entry.version],
        "deprecation": None if deprecation is None else deprecation.document(),
        "facts": {**entry.facts, **_details(workspace, entry)},
    }
    if as_json:
        write_json(details)
        return
    if deprecation is not None:
        say(deprecation.sentence())
    for key in ("type", "name", "version", "aliases", "id", "created"):
        if details[key]:
            _write_fact(key, details[key])
    for part in ("about", "built", "facts"):
        for key, value in details[part].items():
            if value not in _UNSAID:
                _write_fact(key, value)


def _dataset_row(entry: Entry) -> dict[str, str]:
    return {
        "dataset": entry.name,
        "images": _cell(entry.facts.get("images")),
        "unreadable": _cell(entry.facts.get("unreadable")),
        "id": entry.id[:12],
        "created": _cell(entry.created[:10]),
    }


def _cache_row(entry: Entry) -> dict[str, str]:
    facts = entry.facts
    grid, stored = facts.get("grid"), facts.get("bytes")
    cells = [*grid, facts.get("channels")] if isinstance(grid, list) else [None]
    return {
        "cache": entry.name,
        "model": _cell(facts.get("model")),
        "layer": _cell(facts.get("layer")),
        "cells": _cell("×".join(_cell(part) for part in cells)),
        "images": _cell(facts.get("images")),
        "size": size(stored) if _is_size(stored) else "?",
        "id": entry.id[:12],
        "created": _cell(entry.created[:10]),
    }


def _is_size(fact: object) -> TypeGuard[float]:
    return type(fact) in (int, float) and 0 <= cast(float, fact) < 1e18


def _cell(fact: object) -> str:
    """Write a fact of an entry, which may be any JSON, for a table."""
    return "?" if fact is None else shortened(fact)


def _details(workspace: Workspace, entry: Entry) -> dict[str, Any]:
    """Return what stands in the dataset or cache itself, beyond its entry."""
    if entry.type == "dataset":
        from vfs_ops.datasets.dataset import open_dataset

        table = open_dataset(workspace, entry.id).table(["uri", "label", "error"])
        labels = {
            str(count["values"].as_py()): count["counts"].as_py()
            for count in table["label"].drop_null().value_counts()
        }
        failed = table.filter(table["error"].is_valid())
        failures = dict(zip(failed["uri"].to_pylist(), failed["error"].to_pylist(), strict=True))
        return {"labels": labels, "failures": failures}
    from vfs_ops.caches.layout import read_plan, read_spec

    plan = read_plan(workspace, entry.id)
    return {
        "preprocessing": read_spec(workspace, entry.id).extractor.preprocessing.document(),
        "plan": None if plan is None else plan.document(),
    }


def _write_fact(key: str, value: Any, indent: int = 0) -> None:
    """Write a fact on a line of its own; what nobody has said is left out."""
    if isinstance(value, dict):
        shown = [(inner, item) for inner, item in value.items() if item not in _UNSAID]
        if not shown:
            return
        click.echo(printable(f"{' ' * indent}{key:>20}"))
        for inner, item in shown[:20]:
            _write_fact(str(inner), item, indent + 4)
        if len(shown) > 20:
            click.echo(f"{' ' * indent}{'':>24}  … {len(shown) - 20} more (--json shows all)")
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        click.echo(printable(f"{' ' * indent}{key:>20}  {text}"))
