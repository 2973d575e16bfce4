"""`vfs demo`: from photos to an answer, with everything real."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

import catalog
from flows.commands.build import cache_name
from flows.commands.search import write_hits
from flows.console import progress_shown, say, size
from vfs_ops.storage import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches import Cache
    from vfs_ops.datasets import Dataset
    from vfs_ops.extract import FeatureExtractor
    from vfs_ops.queries import Query

MODEL = "efficientnet-lite0"
LAYERS = ("blocks.4", "blocks.6")


@click.command()
@click.option("--images", type=click.Path(exists=True, file_okay=False), help="Your own photos.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("vfs-demo"))
@click.option("-k", default=10, show_default=True, help="How many hits.")
@click.pass_obj
def demo(workspace: Workspace, images: str | None, folder: Path, k: int) -> None:
    """Compute, keep and search a real model's features of real photos, on this machine.

    Without --images, photos from PyPI are cut into tiles, and the front wheel of a motorcycle is
    looked for among them.
    """
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    name, source = ("demo", str(folder / "photos")) if images is None else _named(images)
    with progress_shown() as progress:
        if images is None:
            from flows.demo_photos import cut_tiles

            cut_tiles(folder / "photos", progress)
        say(f"1. ingest {source} as dataset {name!r}")
        from vfs_ops.ingestion import ingest

        dataset = ingest(
            source,
            workspace,
            previous=_previous(workspace, name),
            progress=progress,
        )
        entry = catalog.register_dataset(workspace, name, dataset)
        say(f"   {dataset.count} images, {entry.facts['unreadable']} unreadable")

        say(f"2. build caches of {MODEL} at {' and '.join(LAYERS)}")
        from vfs_ops.builder import build
        from vfs_ops.extract import FeatureExtractor
        from vfs_ops.models import load_model

        extractor = FeatureExtractor(load_model(MODEL), LAYERS)
        caches = build(dataset, extractor, progress=progress)
    names = [cache_name(name, MODEL, layer) for layer in LAYERS]
    for cached, cache in zip(names, caches, strict=True):
        catalog.register_cache(workspace, cached, cache, dataset_name=name)
        grid = f"{cache.grid[0]}×{cache.grid[1]} cells"
        say(f"   {cached}: {grid} of {cache.channels} numbers, {size(cache.feature_bytes)}")
    _search(workspace, dataset, extractor, caches, images is None, folder, k)
    say(f"\nDone in {time.monotonic() - started:.0f} s. Next, try:")
    for command in _next_commands(workspace, names, images is None, folder):
        say(f"  {command}")


def _search(
    workspace: Workspace,
    dataset: Dataset,
    extractor: FeatureExtractor,
    caches: list[Cache],
    photos: bool,
    folder: Path,
    k: int,
) -> None:
    from vfs_ops.scan import search

    what = "the front wheel of a motorcycle" if photos else "the middle of the first image"
    say(f"3. search for {what}")
    for layer, cache in enumerate(caches):
        query = _photo_query(extractor, layer) if photos else _first_image_query(cache)
        hits = search(cache, query, k)
        picture = folder / f"hits-{LAYERS[layer]}.png"
        hits.figure().savefig(picture)
        say(f"\n   {LAYERS[layer]}: {picture}")
        write_hits(hits)


def _photo_query(extractor: FeatureExtractor, layer: int) -> Query:
    from flows.demo_photos import QUERY_BOX, QUERY_PHOTO, photo_path
    from vfs_ops.queries import query_from_image

    return query_from_image(
        extractor, photo_path(QUERY_PHOTO), boxes=[QUERY_BOX], layer=LAYERS[layer]
    )


def _first_image_query(cache: Cache) -> Query:
    from vfs_ops.queries import query_from_row

    row = next(row for row in range(cache.count) if row not in cache.invalid)
    size = cache.dataset.rows([row], ["width", "height"]).to_pylist()[0]
    box = (size["width"] / 3, size["height"] / 3, size["width"] * 2 / 3, size["height"] * 2 / 3)
    return query_from_row(cache, row, boxes=[box])


def _previous(workspace: Workspace, name: str) -> Dataset | None:
    known = {entry.name for entry in catalog.list_entries(workspace, "dataset")}
    return catalog.open_dataset(workspace, name) if name in known else None


def _named(images: str) -> tuple[str, str]:
    text = re.sub(r"[^a-z0-9._-]+", "-", Path(images).resolve().name.lower()).strip("-._")
    return (text or "photos")[:100], images


def _next_commands(
    workspace: Workspace, caches: list[str], photos: bool, folder: Path
) -> list[str]:
    vfs = ".venv/bin/vfs" if Path(".venv/bin/vfs").exists() else "vfs"
    if workspace != Workspace.at("vfs-workspace"):
        vfs += f" -w {shlex.quote(workspace.url)}"
    own = "make demo IMAGES=~/Pictures" if Path("Makefile").exists() else f"{vfs} demo --images DIR"
    figure = shlex.quote(str(folder / "own.png"))
    return [
        f"{vfs} search {caches[1]} --row 100 --figure {figure}"
        if photos
        else f"{vfs} show {caches[1]}",
        f"{vfs} layers {MODEL}",
        own,
    ]
