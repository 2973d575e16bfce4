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
from flows.cache_names import cache_names
from flows.commands.options import DEFAULT_WORKSPACE, LocalPath
from flows.commands.search import write_figure, write_hits
from flows.console import counted, progress_shown, say, size
from vfs_ops.errors import SourceError
from vfs_ops.failures import storage_errors
from vfs_ops.storage import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches import Cache
    from vfs_ops.datasets import Dataset
    from vfs_ops.extract import FeatureExtractor
    from vfs_ops.queries import Query

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
@click.pass_obj
def demo(workspace: Workspace, images: str | None, folder: Path, k: int) -> None:
    """Show all of it on real photos: ingest, build, search.

    Without --images, photos from PyPI are cut into tiles, and the front wheel of a motorcycle is
    looked for among them; with it, the middle of your first photo among the others.
    """
    started = time.monotonic()
    with storage_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    name, source = ("demo", str(folder / "photos")) if images is None else _named(images)
    with progress_shown() as progress:
        if images is None:
            from flows.demo_photos import cut_tiles

            with storage_errors(source):
                cut_tiles(folder / "photos", progress)
        say(f"1. ingest {source} as dataset {name!r}")
        from vfs_ops.ingestion import ingest

        previous = _previous(workspace, name)
        dataset = ingest(source, workspace, previous=previous, progress=progress)
        entry = catalog.register_dataset(workspace, name, dataset)
        say(f"   {counted(dataset.count, 'image')}, {entry.facts['unreadable']} unreadable")
        if dataset.count - entry.facts["unreadable"] < 2:
            raise SourceError(
                f"{source} holds no two photos that can be read; the demo looks for one among the "
                f"others, so give a folder of more (`vfs show {name} --kind dataset` tells why)"
            )

        say(f"2. build caches of {MODEL} at {' and '.join(LAYERS)}")
        from vfs_ops.builder import build
        from vfs_ops.extract import FeatureExtractor
        from vfs_ops.models import load_model

        extractor = FeatureExtractor(load_model(MODEL), LAYERS)
        caches = build(dataset, extractor, progress=progress)
    spec = caches[0].spec
    names = cache_names(
        workspace, name, extractor.specs, precision=spec.precision, dtype=spec.dtype
    )
    for cached, cache in zip(names, caches, strict=True):
        catalog.register_cache(workspace, cached, cache, dataset_name=name)
        grid = f"{cache.grid[0]}×{cache.grid[1]} cells"
        say(f"   {cached}: {grid} of {cache.channels} numbers, {size(cache.feature_bytes)}")
    _search(dataset, extractor, caches, images is None, folder, k)
    say(f"\nDone in {time.monotonic() - started:.0f} s. Next, try:")
    for command in _next_commands(workspace, caches[1], names[1], images, folder):
        say(f"  {command}")


def _search(
    dataset: Dataset,
    extractor: FeatureExtractor,
    caches: list[Cache],
    photos: bool,
    folder: Path,
    k: int,
) -> None:
    from vfs_ops.scan import search

    what = "the front wheel of a motorcycle" if photos else "the middle of the first photo"
    say(f"3. search for {what}")
    for layer, cache in enumerate(caches):
        query = _photo_query(extractor, layer) if photos else _first_image_query(cache)
        hits = search(cache, query, k)
        picture = folder / f"hits-{LAYERS[layer]}.png"
        write_figure(hits, picture)
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

    row, box = _middle_of_first(cache)
    return query_from_row(cache, row, boxes=[box])


def _middle_of_first(cache: Cache) -> tuple[int, tuple[float, float, float, float]]:
    """Return the first readable image's row, and the box of its middle third in pixels."""
    row = next(row for row in range(cache.count) if row not in cache.invalid)
    size = cache.dataset.rows([row], ["width", "height"]).to_pylist()[0]
    width, height = size["width"], size["height"]
    return row, (width / 3, height / 3, width * 2 / 3, height * 2 / 3)


def _previous(workspace: Workspace, name: str) -> Dataset | None:
    known = {entry.name for entry in catalog.list_entries(workspace, "dataset")}
    return catalog.open_dataset(workspace, name) if name in known else None


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
        row, box = _middle_of_first(cache)
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
