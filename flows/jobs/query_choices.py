"""Queries as plain JSON values, and how they become queries of a cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vfs_ops.errors import QueryError
from vfs_ops.images.decoding import MAX_BYTES

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache
    from vfs_ops.models.extract import FeatureExtractor
    from vfs_ops.scans.queries import Query

MOST_QUERY_BYTES: Final = 64 * 2**20
"""Of a file of queries."""


@dataclass(frozen=True, kw_only=True)
class QueryChoice:
    """A region of one image: of the dataset by its row, or any other by its path or URL."""

    row: int | None = None
    """Number of an image of the dataset; needs no model."""
    image: str | None = None
    """Local file or URL of an image."""
    boxes: tuple[tuple[float, float, float, float], ...] | None = None
    """Left, top, right, bottom in pixels; the whole image if neither boxes nor polygons."""
    polygon: tuple[tuple[tuple[float, float], ...], ...] | None = None
    """Polygons of (x, y) in pixels."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON values; an image stands there with the digest of its bytes.

        Raises
        ------
        NotFoundError, AccessError, UnavailableError, StorageError
            If the image cannot be read.
        """
        known = {name: value for name, value in asdict(self).items() if value is not None}
        if self.image is not None:
            known["digest"] = hashlib.sha256(_read(self.image, MAX_BYTES)).hexdigest()
        return known


def read_choices(given: str | Sequence[QueryChoice]) -> tuple[QueryChoice, ...]:
    """Return the queries, from the JSON file that lists them if they are not given themselves.

    Raises
    ------
    QueryError
        If there is none, or the file does not list queries.
    """
    if not isinstance(given, str):
        choices = tuple(given)
    else:
        from pydantic import TypeAdapter, ValidationError

        adapter = TypeAdapter(tuple[QueryChoice, ...])
        try:
            choices = adapter.validate_json(_read(given, MOST_QUERY_BYTES))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "as a whole"
            raise QueryError(f"{given} lists no queries: {place}: {first['msg']}") from error
    if not choices:
        raise QueryError("there are no queries; give at least one, as {'row': 17}")
    for number, choice in enumerate(choices):
        if (choice.row is None) == (choice.image is None):
            raise QueryError(f"query {number} must have either a row or an image")
    return choices


def make_queries(
    cache: Cache, choices: Sequence[QueryChoice], extractor: Callable[[], FeatureExtractor]
) -> list[Query]:
    """Make the queries of a cache.

    Parameters
    ----------
    cache
        To be searched.
    choices
        What to look for.
    extractor
        Loads the cache's model; called if a query is not an image of the dataset.

    Raises
    ------
    QueryError, RegionError, ImageError, NotFoundError, ModelError
        If one cannot be made; the message names which.
    """
    from vfs_ops.scans.queries import query_from_image, query_from_row

    loaded: FeatureExtractor | None = None
    queries = []
    for choice in choices:
        region: dict[str, Any] = {"boxes": choice.boxes, "polygon": choice.polygon}
        if choice.row is not None:
            queries.append(query_from_row(cache, choice.row, **region))
            continue
        loaded = loaded or extractor()
        image = _read(str(choice.image), MAX_BYTES)
        queries.append(query_from_image(loaded, image, **region))
    return queries


def _read(place: str, limit: int) -> bytes:
    from vfs_ops.store.locations import Folder, read_url

    if "://" in place:
        return read_url(place, limit)
    path = Path(place).expanduser()
    return Folder.at(str(path.parent)).read(path.name)
