"""The answer of a search: as a table, as xarray, as a figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vfs_ops.caches.cache import Cache
from vfs_ops.images.geometry import Frame
from vfs_ops.scans.pictures import preview_of
from vfs_ops.scans.provenance import Provenance
from vfs_ops.scans.queries import Query

if TYPE_CHECKING:
    import pandas
    import xarray
    from matplotlib.figure import Figure

_PLACE_COLUMNS: Final = (
    *("rank", "score", "image", "cell_y", "cell_x", "cells_high", "cells_wide"),
    *("left", "top", "right", "bottom"),
)


@dataclass(frozen=True, eq=False)
class Hits:
    """The most similar regions, best first.

    All arrays have shape (hit,).
    """

    score: NDArray[np.float64]
    """Cosine similarity, in [-1, 1]."""
    image: NDArray[np.int64]
    """Row of the dataset."""
    cell_y: NDArray[np.int64]
    """Row of the grid at which the region begins."""
    cell_x: NDArray[np.int64]
    rows: pa.Table
    """The dataset's rows of these images, all columns."""
    query: Query
    cache: Cache
    provenance: Provenance

    def __len__(self) -> int:
        return len(self.score)

    def __repr__(self) -> str:
        best = f", best {self.score[0]:.3f}" if len(self) else ""
        best += "" if self.provenance.complete else ", INCOMPLETE"
        return (
            f"<Hits: {len(self)} of {self.provenance.images_searched} images{best}, cache "
            f"{self.cache.id[:12]}, {self.provenance.seconds:.2f} s>"
        )

    def _repr_html_(self) -> str:
        return frame_html(self.to_frame())

    def frames(self) -> list[Frame]:
        """Return how each hit's image maps into the model's input."""
        sizes = zip(self.rows["width"].to_pylist(), self.rows["height"].to_pylist(), strict=True)
        preprocessing = self.cache.spec.extractor.preprocessing
        return [Frame.of(width, height, preprocessing) for width, height in sizes]

    def boxes(self) -> NDArray[np.float64]:
        """Return where the regions lie: left, top, right and bottom, shape (hit, 4).

        The bounding boxes of what `figure` outlines, see `vfs_ops.images.geometry.Region.core`, in
        pixels of the decoded, upright original images, clipped to them.
        """
        top, left, high, wide = self.query.region.core_window
        boxes = [
            frame.window_box(int(y) + top, int(x) + left, high, wide, self.cache.grid)
            for frame, y, x in zip(self.frames(), self.cell_y, self.cell_x, strict=True)
        ]
        return np.array(boxes, np.float64).reshape(-1, 4)

    def to_frame(self) -> pandas.DataFrame:
        """Return a table with one row per hit.

        Returns
        -------
        pandas.DataFrame
            ``rank`` from 1, ``score``, ``image`` (row of the dataset); the window of cells that was
            scored, with every cell that weighs anything: ``cell_y``, ``cell_x``, ``cells_high``,
            ``cells_wide``; the box of what figures outline, see `boxes`, which the window's faint
            fringe may surround: ``left``, ``top``, ``right``, ``bottom`` (pixels of the original
            image); ``uri``, ``label``, and the dataset's metadata. A metadata column of one of
            these names gets the prefix ``meta.``. Text, and whole numbers of which some are
            missing, are objects, with None where there is no value.
        """
        import pandas as pd

        boxes, count = self.boxes(), len(self)
        values = (
            *(np.arange(1, count + 1), self.score, self.image, self.cell_y, self.cell_x),
            *(np.full(count, self.query.region.high), np.full(count, self.query.region.wide)),
            *boxes.T,
        )
        places = pd.DataFrame(dict(zip(_PLACE_COLUMNS, values, strict=True)))
        metadata = self.rows.select(["uri", "label", *self.cache.dataset.manifest.metadata_columns])
        names = [
            f"meta.{name}" if name in _PLACE_COLUMNS else name for name in metadata.schema.names
        ]
        described: pd.DataFrame = metadata.rename_columns(names).to_pandas(
            integer_object_nulls=True
        )
        for name, column in zip(names, metadata.columns, strict=True):
            if pa.types.is_string(column.type):  # pandas' own strings have NaN for None
                described[name] = pd.Series(column.to_pylist(), dtype=object)
        return pd.concat([places, described], axis="columns")

    def to_xarray(self) -> xarray.Dataset:
        """Return the columns of `to_frame` along the dimension ``rank``.

        Where the hits come from stands in the attributes.
        """
        import xarray as xr

        frame = self.to_frame().set_index("rank")
        columns: dict[Any, Any] = {}
        for name, column in frame.items():
            plain = column.dtype.kind in "biuf"  # pandas' own types mean nothing to xarray
            columns[name] = ("rank", column.to_numpy() if plain else column.to_numpy(object))
        ranks = {"rank": frame.index.to_numpy()}
        made = xr.Dataset(columns, ranks, self.provenance.attributes())
        for name in made.data_vars:
            if made[name].dtype == np.dtype(object):
                made[name].values[:] = columns[name][1]  # xarray turns the None of text into NaN
        return made

    def figure(self, *, columns: int = 5) -> Figure:
        """Draw the query with its region on the left, and the hits with theirs on the right.

        Parameters
        ----------
        columns
            Hits in one row of the figure.

        Returns
        -------
        matplotlib.figure.Figure
            It shows itself in a notebook; ``.savefig("hits.png")`` writes it.
        """
        from vfs_ops.scans.figures import Panel, hits_figure

        core, picture = self.query.region.core, self.query.picture
        labels, uris = self.rows["label"].to_pylist(), self.rows["uri"].to_pylist()
        panels = [
            Panel(
                image=preview_of(self.cache, int(self.image[number])),
                frame=frame,
                core=core,
                cell=(int(self.cell_y[number]), int(self.cell_x[number])),
                grid=self.cache.grid,
                title=f"{number + 1}    {self.score[number]:.3f}",
                caption=labels[number] or "/".join(uris[number].split("/")[-2:]),
            )
            for number, frame in enumerate(self.frames())
        ]
        return hits_figure(picture.image, picture.mask, picture.frame, panels, columns)


def frame_html(frame: pandas.DataFrame) -> str:
    """Return a table for a notebook, with all text escaped and blanks for what is missing."""
    shown = frame.copy()
    for name in [name for name, dtype in shown.dtypes.items() if dtype == np.dtype(object)]:
        shown[name] = shown[name].where(shown[name].notna(), "")
    table: str = shown.to_html(index=False, escape=True, max_cols=20, na_rep="")
    return table


@dataclass(frozen=True, eq=False, repr=False)
class ManyHits:
    """The answers to several queries that were searched for in one scan, in their order."""

    answers: tuple[Hits, ...]
    provenance: Provenance
    """Of the scan as a whole. `images_searched` counts what was compared with any query."""

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, number: int) -> Hits:
        return self.answers[number]

    def __iter__(self) -> Iterator[Hits]:
        return iter(self.answers)

    def __repr__(self) -> str:
        return (
            f"<ManyHits: {len(self)} queries, {sum(map(len, self.answers))} hits in "
            f"{self.provenance.images_searched} images, cache {self.provenance.cache[:12]}, "
            f"{self.provenance.seconds:.2f} s{'' if self.provenance.complete else ', INCOMPLETE'}>"
        )

    def _repr_html_(self) -> str:
        return frame_html(self.to_frame())

    def to_frame(self) -> pandas.DataFrame:
        """Return one table with a row per hit.

        Returns
        -------
        pandas.DataFrame
            ``query``, the number of the query from 0, and the columns of `Hits.to_frame`.
        """
        import pandas as pd

        frames = [hits.to_frame() for hits in self.answers]
        for number, frame in enumerate(frames):
            frame.insert(0, "query", number)
        return pd.concat(frames, ignore_index=True)
