"""`vfs demo`: from photos to an answer, with everything real."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

import catalog
from flows.commands.options import DEFAULT_WORKSPACE, LocalPath, track_option
from flows.commands.search import write_figure, write_hits
from flows.console import counted, say, size
from flows.console_watcher import console_watcher
from flows.first_search import first_query, middle_of_first
from flows.jobs.building import BuildJob, ExtractorChoice
from flows.jobs.ingestion import IngestJob
from flows.patience import doing
from flows.running import runner
from vfs_ops.errors import SourceError
from vfs_ops.store.failures import storage_errors
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache
    from vfs_ops.models.extract import FeatureExtractor
    from vfs_ops.scans.queries import Query

MODEL = "efficientnet-lite0"
LAYERS = ("blocks.4", "blocks.6")


@click.command()
@click.option(
    "--images", type=LocalPath(exists=True, file_okay=False), help="A folder of your own photos."
)
@click.option(
    "--folder",
    type=LocalPath(path_type=Path),
    default=Path("vfs-demo"),
    show_default=True,
    help="Where pictures of the answers are written.",
)
@click.option(
    "-k", type=click.IntRange(min=1), default=10, show_default=True, help="How many hits."
)
@track_option
@click.pass_obj
def demo(workspace: Workspace, images: str | None, folder: Path, k: int, track: bool) -> None:
    """Show all of it on real photos: ingest, build, search.

    Without --images, photos from PyPI are cut into tiles, and the front wheel of a motorcycle is
    looked for among them; with it, the middle of your first photo among the others.
    """
    started = time.monotonic()
    with storage_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    run = runner(track=track)
    name, source = ("demo", str(folder / "photos")) if images is None else _named(images)
    with console_watcher() as watcher:
        if images is None:
            with doing("cutting photos into tiles"), storage_errors(source):
                from flows.demo_photos import cut_tiles

                cut_tiles(folder / "photos", watcher.progress)
        say(f"1. ingest {source} as dataset {name!r}")
        entry = run(IngestJob(workspace=workspace.url, name=name, source=source), watcher)
        count, unreadable = entry.facts["images"], entry.facts["unreadable"]
        say(f"   {counted(count, 'image')}, {unreadable} unreadable")
        if count - unreadable < 2:
            raise SourceError(
                f"{source} holds no two photos that can be read; the demo looks for one among the "
                f"others, so give a folder of more (`vfs show {name} --kind dataset` tells why)"
            )

        say(f"2. build caches of {MODEL} at {' and '.join(LAYERS)}")
        choice = ExtractorChoice(model=MODEL, layers=LAYERS)
        job = BuildJob(workspace=workspace.url, dataset=name, extractors=(choice,))
        built = run(job, watcher)
    names = [cached.name for cached in built.entries]
    caches = [catalog.open_cache(workspace, cached.id) for cached in built.entries]
    for cached, cache in zip(names, caches, strict=True):
        grid = f"{cache.grid[0]}×{cache.grid[1]} cells"
        say(f"   {cached}: {grid} of {cache.channels} numbers, {size(cache.feature_bytes)}")
    _search(caches, images is None, folder, k)
    say(f"\nDone in {time.monotonic() - started:.0f} s. Next, try:")
    for command in _next_commands(workspace, caches[1], names[1], images, folder):
        say(f"  {command}")


def _search(caches: list[Cache], photos: bool, folder: Path, k: int) -> None:
    from vfs_ops.scans.search import search

    what = "the front wheel of a motorcycle" if photos else "the middle of the first photo"
    say(f"3. search for {what}")
    extractor = _load() if photos else None
    for layer, cache in enumerate(caches):
        query = first_query(cache) if extractor is None else _photo_query(extractor, layer)
        hits = search(cache, query, k)
        picture = folder / f"hits-{LAYERS[layer]}.png"
        write_figure(hits, picture)
        say(f"\n   {LAYERS[layer]}: {picture}")
        write_hits(hits)


def _load() -> FeatureExtractor:
    from vfs_ops.models.extract import FeatureExtractor
    from vfs_ops.models.loading import load_model

    with doing(f"loading {MODEL}"):
        return FeatureExtractor(load_model(MODEL), LAYERS)


def _photo_query(extractor: FeatureExtractor, layer: int) -> Query:
    from flows.demo_photos import QUERY_BOX, QUERY_PHOTO, photo_path
    from vfs_ops.scans.queries import query_from_image

    return query_from_image(
        extractor, photo_path(QUERY_PHOTO), boxes=[QUERY_BOX], layer=LAYERS[layer]
    )


def _named(images: str) -> tuple[str, str]:
    text = re.sub(r"[^a-z0-9._-]+", "-", Path(images).resolve().name.lower()).strip("-._")
    return (text or "photos")[:100], images


def _next_commands(
    workspace: Workspace, cache: Cache, cached: str, images: str | None, folder: Path
) -> list[str]:
    """Return three commands to try, one of them on a folder of the person's own."""
    vfs = _program()
    if workspace != Workspace.at(DEFAULT_WORKSPACE):
        vfs += f" -w {shlex.quote(workspace.url)}"
    figure = shlex.quote(str(folder / "own.png"))
    if images is not None:
        row, box = middle_of_first(cache)
        uri = cache.dataset.rows([row], ["uri"]).to_pylist()[0]["uri"]
        file = shlex.quote(str(Path(images) / uri))
        corners = ",".join(f"{round(side)}" for side in box)
        return [
            f"{vfs} search {cached} --image {file} --box {corners} --figure {figure}",
            f"{vfs} show {cached}",
            f"{vfs} layers {MODEL}",
        ]
    by_make = "MAKELEVEL" in os.environ  # set by make for what it runs
    return [
        f"{vfs} search {cached} --row {cache.count // 2} --figure {figure}",
        f"{vfs} layers {MODEL}",
        "make demo IMAGES=~/Pictures" if by_make else f"{vfs} demo --images ~/Pictures",
    ]


def _program() -> str:
    """Return what the person types to run this program."""
    started, found = Path(sys.argv[0]), shutil.which("vfs")
    if started.name != "vfs" or (found and started.exists() and started.samefile(found)):
        return "vfs"
    return shlex.quote(str(started))
