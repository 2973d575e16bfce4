"""SearchPanel: highlight a region, and see where a model finds it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import traitlets

from vfs_ops.caches.cache import Cache
from vfs_ops.datasets.predicates import Filters, narrowed
from vfs_ops.errors import QueryError, VfsError
from vfs_ops.images.geometry import Downsample
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.scans.hits import Hits
from vfs_ops.scans.query_recipes import QueryRecipe
from vfs_ops.scans.run import Partial, SearchRun
from vfs_ops.scans.search import search_iter
from vfs_ops.widgets.base import Answer, Handler
from vfs_ops.widgets.bundle import bundle, stylesheet
from vfs_ops.widgets.cells import Cells
from vfs_ops.widgets.export import Reply, save_file, save_page
from vfs_ops.widgets.figure_files import figure_file
from vfs_ops.widgets.filters import describe_columns, filters_in_words, read_filters
from vfs_ops.widgets.hit_cards import answer_of, row_of_cards
from vfs_ops.widgets.panel_images import PanelImages
from vfs_ops.widgets.picker import PixelMask, RegionPicker
from vfs_ops.widgets.pictures import THUMBNAIL_SIDE, ImageLike, as_jpeg
from vfs_ops.widgets.searching import Outcome, Searcher

MOST_HITS: Final = 200
_KINDS: Final = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "json": "application/json",
}


class SearchPanel(RegionPicker):
    """A region picker with the hits of one or several caches below it.

    Releasing the pointer searches, or a button does. ``panel.hits`` are those of the last search
    that ended, by name of the cache, and what there was if it was cancelled; ``panel.searches`` is
    a trait that counts these. A search that a newer one has replaced leaves no hits.

    Parameters
    ----------
    caches
        What is searched, each a row of hits: a cache, several, or several by name.
    images, names
        What to highlight; see `RegionPicker`. They need `extractor`.
    extractor
        The caches' own, or several of which each cache finds its own.
    rows
        Images of the caches' dataset to highlight; their features come from the caches.
    k
        Hits of each cache, `MOST_HITS` at most.
    where
        Filters on the metadata that hold besides those chosen in the panel.
    unique_by
        Column of which each value gives one hit at most, at first.
    live
        Search whenever the pointer is released; else a button does.
    downsample
        How a mask becomes weights; see `vfs_ops.images.geometry.mask_to_region`.

    Raises
    ------
    QueryError, ExtractorMismatchError
        If something needed is not given, or does not belong to a cache.

    Examples
    --------
    >>> SearchPanel(cache, "bird.jpg", extractor=extractor)  # doctest: +SKIP
    >>> SearchPanel({"layer 4": early, "layer 6": late}, rows=[3, 17])  # doctest: +SKIP
    """

    _esm = bundle("panel_widget")
    _css = stylesheet("picker", "panel")

    searches = traitlets.Int(0, help="Grows with each search that ended.")

    def __init__(
        self,
        caches: Cache | Sequence[Cache] | Mapping[str, Cache],
        images: ImageLike | Sequence[ImageLike] = (),
        *,
        extractor: FeatureExtractor | Sequence[FeatureExtractor] = (),
        rows: Sequence[int] = (),
        names: Sequence[str] | None = None,
        k: int = 8,
        where: Filters | None = None,
        unique_by: str | None = None,
        live: bool = True,
        downsample: Downsample = "bilinear",
        **traits: Any,
    ) -> None:
        self._caches = _named(caches)
        self._images = PanelImages(self._caches, images, names, extractor, rows)
        self._where, self._downsample = where, downsample
        self._options: dict[str, Any] = {"k": k, "unique_by": unique_by, "where": []}
        self._live = live
        self._searcher = Searcher()
        self._newest = 0  # the request whose hits count
        self._searching: dict[str, int] | None = None  # the request that runs, and its image
        self._partial: dict[str, Hits] = {}
        self._answered: dict[str, Any] = {}
        self.hits: dict[str, Hits] = {}
        super().__init__(
            self._images,
            cells={name: Cells.of(cache, downsample) for name, cache in self._caches.items()},
            features={name: partial(self._features_of, name) for name in self._caches},
            **traits,
        )

    def recipe(self) -> QueryRecipe:
        """Return what makes the last search's query again.

        Raises
        ------
        QueryError
            If nothing has been found yet.
        """
        with self._lock:
            query = next(iter(self._last().values())).query
            chosen = self._answered["options"]
        options = {**chosen, "where": narrowed(self._where, chosen["where"])}
        search = {key: value for key, value in options.items() if value}
        return replace(query.to_recipe(), search=search)

    def save(self, path: str | Path) -> Path:
        """Write the last search: its figure (.png, .svg), hits (.csv, .parquet) or recipe (.json).

        Returns
        -------
        Path
            What was written; a file that is there is replaced, once the new one is whole.

        Raises
        ------
        QueryError
            If nothing has been found yet, or the name ends in something else.
        StorageError
            If it cannot be written.
        """
        return save_file(path, self._file(Path(path).suffix.removeprefix(".")))

    def save_html(self, path: str | Path, *, title: str = "Where it is found again") -> Path:
        """Write a page that shows the hits of every image with a highlighted region, offline.

        Parameters
        ----------
        path
            Where to; one file, which needs no server and no network.
        title
            Of the page, above the hits too.

        Raises
        ------
        QueryError
            If nothing is highlighted in any image.
        """
        with self._lock:
            masks = {number: mask for number, mask in sorted(self._masks.items()) if mask.any()}
            chosen = self._answered.get("options") or {**self._options, "where": []}
            state = self._answer_state({}, ()).value
        if not masks:
            raise QueryError("nothing is highlighted in any image; paint a part of one first")
        options = {"k": chosen["k"], "unique_by": chosen["unique_by"], "where": []}
        state = {
            **state,
            "exported": True,
            "title": title,
            "asked": self._in_words(chosen),
            "names": [self._pictures.names[number] for number in masks],
            "image": 0,
            "panel": {**state["panel"], "columns": [], "options": options, "searching": None},
        }
        replies = [Reply("state", {}, Answer(state))]
        for place, (number, mask) in enumerate(masks.items()):
            found = answer_of(list(self._caches), self._found(number, mask, chosen))
            image = self._pictures.image(number)
            replies += [
                Reply("image", {"number": place}, self._shown(number, mask)),
                Reply(
                    "thumbnail", {"number": place}, Answer(buffers=[as_jpeg(image, THUMBNAIL_SIDE)])
                ),
                Reply("search", {"number": place, "options": options}, found),
            ]
        return save_page(
            path, title=title, module=self._esm, css=self._css, state={}, replies=replies
        )

    def _in_words(self, chosen: dict[str, Any]) -> str:
        where = filters_in_words(narrowed(self._where, chosen["where"]))
        parts = [
            f"{chosen['k']} hits of each cache",
            f"one per {chosen['unique_by']}" if chosen["unique_by"] else "",
            f"where {where}" if where else "",
        ]
        return ", ".join(part for part in parts if part)

    def _found(self, number: int, mask: PixelMask, chosen: dict[str, Any]) -> Outcome:
        """Search for what is highlighted in an image, and wait."""
        outcome = Outcome()
        for name in self._caches:
            try:
                with self._begin(name, number, mask, chosen) as run:
                    *_, last = run
                    hits = last.hits
            except VfsError as error:
                outcome.errors[name] = error
            else:
                if isinstance(hits, Hits):
                    outcome.hits[name] = hits
        return outcome

    def handlers(self) -> dict[str, Handler]:
        """Return what answers the browser."""
        return super().handlers() | {
            "search": self._answer_search,
            "cancel": self._answer_cancel,
            "adopt": self._answer_adopt,
            "file": self._answer_file,
        }

    def _answer_state(self, value: dict[str, Any], buffers: Any) -> Answer:
        state = super()._answer_state(value, buffers).value
        dataset = next(iter(self._caches.values())).dataset
        panel = {
            "caches": [
                {"name": name, "about": repr(cache)} for name, cache in self._caches.items()
            ],
            "columns": describe_columns(dataset),
            "options": self._options,
            "live": self._live,
            "most": MOST_HITS,
            "searching": self._searching,
        }
        return Answer({**state, "panel": panel})

    def _answer_search(self, value: dict[str, Any], buffers: Any) -> None:
        number, request = int(value["number"]), int(value["id"])
        self._searcher.cancel()
        self._newest = request
        chosen = self._chosen(value["options"])
        mask = self._mask_of(number)
        if not mask.any():
            raise QueryError("nothing is highlighted; paint a part of the image")
        begin = {name: partial(self._begin, name, number, mask, chosen) for name in self._caches}
        asked = {"options": chosen}
        self._partial = {}
        self._searching = {"request": request, "number": number}
        self.notify("searching", self._searching)
        self._searcher.start(
            begin,
            on_partial=partial(self._tell_partial, request),
            on_end=partial(self._tell_end, request, asked),
        )

    def _chosen(self, options: dict[str, Any]) -> dict[str, Any]:
        dataset = next(iter(self._caches.values())).dataset
        k = options["k"]
        if not isinstance(k, int) or not 1 <= k <= MOST_HITS:
            raise QueryError(f"{k} hits are asked for; expected 1 to {MOST_HITS}")
        unique_by = options["unique_by"]
        return {
            "k": k,
            "unique_by": None if unique_by is None else str(unique_by),
            "where": read_filters(dataset, options["where"]),
        }

    def _begin(self, name: str, number: int, mask: PixelMask, chosen: dict[str, Any]) -> SearchRun:
        query = self._images.make_query(number, mask, name, self._downsample)
        return search_iter(
            self._caches[name],
            query,
            chosen["k"],
            where=narrowed(self._where, chosen["where"]),
            unique_by=chosen["unique_by"],
        )

    def _tell_partial(self, request: int, name: str, found: Partial) -> None:
        hits = found.hits
        if not isinstance(hits, Hits) or request != self._newest:
            return
        row, previews = row_of_cards(hits)
        told = {"request": request, "name": name, "row": row, "fraction": found.fraction}
        with self._lock:
            if request == self._newest:
                self._partial[name] = hits
                self.notify("partial", told, previews)

    def _tell_end(self, request: int, asked: dict[str, Any], outcome: Outcome) -> None:
        answer = answer_of(list(self._caches), outcome)
        with self._lock:
            newest = request == self._newest
            if newest:
                self.hits, self._answered, self._partial = outcome.hits, asked, {}
            if self._searching is not None and self._searching["request"] == request:
                self._searching = None
            self.answer(request, answer)
            self.notify("ended", {"request": request})
            if newest:
                self.searches += 1

    def _answer_cancel(self, value: dict[str, Any], buffers: Any) -> Answer:
        """Stop a search, unless another one has taken its place."""
        if self._searching is not None and self._searching["request"] == value["request"]:
            self._searcher.cancel()
        return Answer()

    def _answer_adopt(self, value: dict[str, Any], buffers: Any) -> Answer:
        """Make a hit the next image to search for, with its region highlighted."""
        image = int(value["image"])
        hits = (self.hits | self._partial).get(value["name"])
        if hits is None or image not in hits.image:
            raise QueryError("this hit is of a search that has been replaced; choose another")
        place = int(np.flatnonzero(hits.image == image)[0])
        number = self._images.add_row(hits.cache, int(hits.image[place]))
        width, height = self._images.image(number).size
        left, top, right, bottom = np.rint(hits.boxes()[place]).astype(int)
        mask = np.zeros((height, width), np.bool_)
        mask[top:bottom, left:right] = True
        self._keep(number, mask)
        return Answer({"number": number, "names": self._images.names})

    def _answer_file(self, value: dict[str, Any], buffers: Any) -> Answer:
        kind = str(value["kind"])
        return Answer({"name": f"hits.{kind}", "type": _KINDS.get(kind, "")}, [self._file(kind)])

    def _file(self, kind: str) -> bytes:
        if kind not in _KINDS:
            raise QueryError(f"there is no {kind!r} of a search; expected {', '.join(_KINDS)}")
        rows = self._last()
        if kind == "json":
            return self.recipe().to_json().encode()
        if kind == "png":
            return figure_file(rows, "png")
        if kind == "svg":
            return figure_file(rows, "svg")
        import pandas as pd

        frames = [hits.to_frame().assign(cache=name) for name, hits in rows.items()]
        table = pd.concat(frames, ignore_index=True)
        return bytes(
            table.to_csv(index=False).encode() if kind == "csv" else table.to_parquet(index=False)
        )

    def _last(self) -> dict[str, Hits]:
        if not self.hits:
            raise QueryError("nothing has been found yet; highlight a region first")
        return self.hits

    def _features_of(self, name: str, number: int) -> np.ndarray[Any, Any]:
        return self._images.features(number, name)


def _named(caches: Cache | Sequence[Cache] | Mapping[str, Cache]) -> dict[str, Cache]:
    if isinstance(caches, Mapping):
        return dict(caches)
    several = [caches] if isinstance(caches, Cache) else list(caches)
    names = [f"{cache.spec.extractor.model} {cache.spec.extractor.layer}" for cache in several]
    if len(set(names)) < len(names):
        names = [f"{name} ({cache.id[:8]})" for name, cache in zip(names, several, strict=True)]
    return dict(zip(names, several, strict=True))
