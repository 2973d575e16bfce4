"""`vfs search-batch`: many queries at once, answered in Parquet."""

from __future__ import annotations

import click

from flows.commands.options import LocalPath, json_option, threads_option, track_option
from flows.commands.search import parse_condition
from flows.console import say, write_json
from flows.console_watcher import console_watcher
from flows.jobs.batch_search import SearchJob
from flows.jobs.query_choices import QueryChoice
from flows.running import run
from vfs_ops.errors import QueryError
from vfs_ops.store.workspace import Workspace


@click.command("search-batch")
@click.argument("caches", nargs=-1, required=True)
@click.option(
    "--queries",
    help="File or URL of a JSON list: {'row': 17}, {'image': 'cat.jpg', 'boxes': [[0, 0, 9, 9]]}.",
)
@click.option("--row", "rows", type=int, multiple=True, help="Or a whole image of the dataset.")
@click.option("-k", default=10, show_default=True, help="How many hits of each query.")
@click.option(
    "--where",
    multiple=True,
    help="COLUMN=VALUE, also != < <= > >= and ~ (contains); all must hold.",
)
@click.option("--unique-by", help="At most one hit for each value of this column.")
@click.option("--include-query-image", is_flag=True, help="Do not leave out the image itself.")
@click.option("--checkpoint", type=LocalPath(), help="For caches made with a local checkpoint.")
@click.option("--cluster", help="Search there: local, cuda or the address of a Dask scheduler.")
@click.option("--also", multiple=True, metavar="WORKSPACE", help="Caches may lie there, too.")
@click.option("--output", metavar="WORKSPACE", help="Write the answers there.  [default: -w]")
@threads_option
@track_option
@json_option
@click.pass_obj
def search_batch(
    workspace: Workspace,
    caches: tuple[str, ...],
    queries: str | None,
    rows: tuple[int, ...],
    k: int,
    where: tuple[str, ...],
    unique_by: str | None,
    include_query_image: bool,
    checkpoint: str | None,
    cluster: str | None,
    also: tuple[str, ...],
    output: str | None,
    threads: int | None,
    track: bool,
    as_json: bool,
) -> None:
    """Search CACHES for many regions, in one scan of each.

    The answers go to Parquet files of a workspace, one for each cache; the same question is
    answered once.
    """
    if (queries is None) == (not rows):
        raise QueryError("give the queries as either --queries FILE or --row NUMBER")
    job = SearchJob(
        workspace=workspace.url,
        caches=caches,
        queries=queries or tuple(QueryChoice(row=row) for row in rows),
        k=k,
        where=tuple(parse_condition(text) for text in where),
        unique_by=unique_by,
        include_query_image=include_query_image,
        checkpoint=checkpoint,
        cluster=cluster,
        also=tuple(Workspace.at(url).url for url in also),
        output=None if output is None else Workspace.at(output).url,
        threads=threads,
    )
    with console_watcher() as watcher:
        searched = run(job, track=track, watcher=watcher)
    places = [f"{searched.workspace}/{key}" for key in searched.keys]
    if as_json:
        write_json({"id": searched.id, "files": places, "found_before": searched.found_before})
        return
    how = "were answered before" if searched.found_before else "answered"
    say(f"{searched.queries} {'query' if searched.queries == 1 else 'queries'} {how}")
    for place in places:
        click.echo(place)
