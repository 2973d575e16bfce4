"""`vfs search`: highlight a region, find what is similar."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import catalog
from flows.commands.options import FigurePath, LocalPath, json_option
from flows.console import progress_shown, say, write_json, write_table
from flows.patience import doing
from vfs_ops.errors import PredicateError, QueryError, RegionError
from vfs_ops.store.failures import storage_errors
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache
    from vfs_ops.scans.hits import Hits
    from vfs_ops.scans.queries import Query

_CONDITION = re.compile(
    r"\s*(?P<column>.+?)\s*(?P<operator>==|!=|<=|>=|=|<|>|~)\s*(?P<value>.*?)\s*"
)


@click.command()
@click.argument("cache")
@click.option("--image", type=LocalPath(), help="Image file to take the region from.")
@click.option("--row", type=int, help="Or the number of an image of the dataset; needs no model.")
@click.option("--box", multiple=True, help="LEFT,TOP,RIGHT,BOTTOM in pixels; may be repeated.")
@click.option("--polygon", multiple=True, help="X,Y X,Y X,Y … in pixels; may be repeated.")
@click.option(
    "--mask", type=LocalPath(), help="Image file of the image's size: white is highlighted."
)
@click.option("-k", default=10, show_default=True, help="How many hits.")
@click.option(
    "--where",
    multiple=True,
    help="COLUMN=VALUE, also != < <= > >= and ~ (contains); all must hold.",
)
@click.option("--unique-by", help="At most one hit for each value of this column.")
@click.option("--include-query-image", is_flag=True, help="Do not leave out the image itself.")
@click.option("--checkpoint", type=LocalPath(), help="For a cache made with a local checkpoint.")
@click.option(
    "--figure", type=FigurePath(), help="Write the picture of the answer (PNG, SVG, PDF, JPEG)."
)
@click.option("--threads", type=click.IntRange(min=1), help="Shards that are read at once.")
@json_option
@click.pass_obj
def search(
    workspace: Workspace,
    cache: str,
    image: str | None,
    row: int | None,
    box: tuple[str, ...],
    polygon: tuple[str, ...],
    mask: str | None,
    k: int,
    where: tuple[str, ...],
    unique_by: str | None,
    include_query_image: bool,
    checkpoint: str | None,
    figure: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Find what is similar to a region of an image.

    Searched are all regions of that shape in all images of CACHE, a name as `vfs ls` lists it.
    Without --box, --polygon or --mask, the whole image is highlighted.
    """
    if (image is None) == (row is None):
        raise QueryError("give the query as either --image FILE or --row NUMBER")
    filters = [parse_condition(text) for text in where] or None
    opened = catalog.open_cache(workspace, cache)
    region = {
        "mask": None if mask is None else _read_mask(mask),
        "boxes": [_numbers("--box", text, 4) for text in box] or None,
        "polygon": [_points(text) for text in polygon] or None,
    }
    query = _make_query(opened, image, row, region, checkpoint)
    with doing(f"searching {cache}"), progress_shown() as progress:
        from vfs_ops.scans.search import search as scan

        hits = scan(
            opened,
            query,
            k,
            where=filters,
            unique_by=unique_by,
            exclude_query_image=not include_query_image,
            threads=threads,
            progress=progress,
        )
    if figure is not None:
        write_figure(hits, figure)
    if as_json:
        write_json(json.loads(hits.to_frame().to_json(orient="records", double_precision=15)))
    else:
        write_hits(hits)
        if figure is not None:
            say(f"figure: {figure}")


def write_figure(hits: Hits, path: str | Path) -> None:
    """Write the picture of hits; see `options.FigurePath`.

    Raises
    ------
    AccessError, StorageFullError, StorageError
        If it cannot be written.
    """
    with doing(f"drawing {path}"):
        picture = hits.figure()
        with storage_errors(str(path)):
            picture.savefig(path)


def write_hits(hits: Hits) -> None:
    """Write hits as a table for a person: rank, score, what and where."""
    table = hits.to_frame().fillna({"label": ""})
    columns = ["rank", "score", "image", "label", "left", "top", "right", "bottom", "uri"]
    rows = [
        {str(key): value for key, value in row.items()} for row in table[columns].to_dict("records")
    ]
    for row in rows:
        row.update({side: round(row[side]) for side in ("left", "top", "right", "bottom")})
    write_table(rows, right=("rank", "score", "image", "left", "top", "right", "bottom"))


def parse_condition(text: str) -> tuple[str, str, Any]:
    """Read one condition of --where; the value is JSON where it can be, else text.

    Examples
    --------
    >>> parse_condition("width>=200")
    ('width', '>=', 200)
    >>> parse_condition("label=tabby cat")
    ('label', '==', 'tabby cat')
    >>> parse_condition("aliases~team-default")
    ('aliases', 'contains', 'team-default')
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise PredicateError(
            f"--where {text!r} is no condition; expected as label=cat, width>=200, tags~red"
        )
    operator = {"=": "==", "~": "contains"}.get(match["operator"], match["operator"])
    try:
        value = json.loads(match["value"])
    except ValueError:
        value = match["value"]
    return match["column"], operator, value


def _make_query(
    cache: Cache, image: str | None, row: int | None, region: dict[str, Any], checkpoint: str | None
) -> Query:
    with doing("loading torch"):
        from vfs_ops.scans.queries import query_from_image, query_from_row

    if row is not None:
        return query_from_row(cache, row, **region)
    from vfs_ops.images.local_files import open_file

    data, _ = open_file(str(image))  # what is no image is refused before the model is loaded
    with doing(f"loading {cache.spec.extractor.model}"):
        from vfs_ops.caches.recipes import load_extractor

        extractor = load_extractor(cache, checkpoint=checkpoint)
    return query_from_image(extractor, data, **region)


def _read_mask(path: str) -> Any:
    from vfs_ops.images.local_files import open_file

    return open_file(path)[1].convert("L")


def _numbers(option: str, text: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise RegionError(f"{option} {text!r}: expected {count} numbers separated by commas")
    return numbers


def _points(text: str) -> list[tuple[float, ...]]:
    return [_numbers("--polygon", point, 2) for point in text.split()]
