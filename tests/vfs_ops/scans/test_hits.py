from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makers import make_extractor, write_photos

from vfs_ops.builds.builder import build
from vfs_ops.caches.cache import Cache
from vfs_ops.datasets.dataset import Dataset
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.datasets.tables import TableSource
from vfs_ops.errors import NotFoundError
from vfs_ops.scans.hits import Hits
from vfs_ops.scans.queries import query_from_row
from vfs_ops.scans.search import search
from vfs_ops.store.workspace import Workspace

EVIL = "<script>alert(1)</script> $\\frac{$"


@pytest.fixture
def hits(tmp_path: Path, workspace: Workspace) -> Hits:
    write_photos(tmp_path / "some", 12)
    uris = sorted(path for path in (tmp_path / "some").rglob("*.png"))
    table = pd.DataFrame(
        {
            "path": [str(uri) for uri in uris],
            "label": [EVIL, None, "plain"] * 4,
            "score": np.arange(12),
            "boxes": [[[1, 2], [3]]] * 12,
            "taken": pd.Timestamp("2020-01-02"),
        }
    )
    table.to_parquet(tmp_path / "table.parquet")
    dataset = ingest(TableSource(str(tmp_path / "table.parquet")), workspace)
    [cache] = build(dataset, make_extractor(("2",)))
    query = query_from_row(cache, 0, boxes=[(16, 12, 48, 36)], downsample="coverage")
    return search(cache, query, 5)


def test_the_table_tells_what_and_where(hits: Hits) -> None:
    frame = hits.to_frame()
    assert list(frame.columns) == [
        *("rank", "score", "image", "cell_y", "cell_x", "cells_high", "cells_wide"),
        *("left", "top", "right", "bottom", "uri", "label", "meta.score", "boxes", "taken"),
    ]
    assert frame["rank"].tolist() == [1, 2, 3, 4, 5]
    assert frame["score"].is_monotonic_decreasing
    assert frame["meta.score"].tolist() == frame["image"].tolist()
    for hit in frame.itertuples():
        # 64 × 48 pixels resized to 32 × 32 and seen as 4 × 4 cells: 16 × 12 pixels a cell
        assert (hit.left, hit.top) == (16 * hit.cell_x, 12 * hit.cell_y)
        assert (hit.right - hit.left, hit.bottom - hit.top) == (32, 24)
        assert (hit.cells_high, hit.cells_wide) == (2, 2)
        assert hit.uri.endswith(".png")


def test_xarray_holds_the_same_along_rank(hits: Hits) -> None:
    found, frame = hits.to_xarray(), hits.to_frame()
    assert dict(found.sizes) == {"rank": 5}
    assert list(found.data_vars) == list(frame.columns[1:])
    np.testing.assert_array_equal(found["score"], frame["score"])
    np.testing.assert_array_equal(found["label"].isnull(), frame["label"].isna())
    known = frame["label"].notna().to_numpy()
    assert found["label"].values[known].tolist() == frame["label"][known].tolist()
    assert found["taken"].values[0] == pd.Timestamp("2020-01-02")
    assert found.attrs["cache"] == hits.cache.id
    assert found.attrs["images_searched"] == 11


def test_the_box_is_what_the_figure_outlines(cache: Cache) -> None:
    query = query_from_row(cache, 0, boxes=[(17, 13, 47, 35)])  # pixels; 8 × 6 a cell
    region = query.region
    assert region.weights[0, 0] < 0.1
    hits = search(cache, query, 4)
    frame, figure = hits.to_frame(), hits.figure()
    assert (frame["cells_high"] == region.high).all()
    assert (frame["right"] - frame["left"] == 8 * region.core.any(axis=0).sum()).all()
    assert (frame["right"] - frame["left"] < 8 * frame["cells_wide"]).all()
    for box, axes in zip(hits.boxes(), figure.axes[1:], strict=True):
        [lines] = axes.collections
        points = np.concatenate(lines.get_segments()) + 0.5  # previews are 64 × 48 pixels too
        assert [*points.min(axis=0), *points.max(axis=0)] == box.tolist()


def test_what_is_missing_is_none_and_empty_in_html(tmp_path: Path, workspace: Workspace) -> None:
    write_photos(tmp_path / "some", 4)
    uris = sorted(str(path) for path in (tmp_path / "some").rglob("*.png"))
    columns = {
        "label": pa.array([None, "a", None, None]),
        "note": pa.array([None, None, "b", None], pa.string()),
        "size": pa.array([2**60 + 1, None, 3, 4]),
        "when": pa.array([None, 1, 2, 3], pa.timestamp("ms")),
    }
    pq.write_table(pa.table({"path": uris, **columns}), tmp_path / "table.parquet")
    dataset = ingest(TableSource(str(tmp_path / "table.parquet")), workspace)
    [cache] = build(dataset, make_extractor(("2",)))
    hits = search(cache, query_from_row(cache, 0), 4, exclude_query_image=False)
    frame, array = hits.to_frame().set_index("image"), hits.to_xarray()
    for name in ("label", "note", "size"):
        expected = columns[name].to_pylist()
        assert frame[name].dtype == object
        assert [frame[name][row] for row in range(4)] == expected
        assert array[name].values.tolist() == [expected[row] for row in hits.image]
    html = hits._repr_html_()
    assert not re.search("None|nan|NaN|NaT", html)


def test_html_is_escaped(hits: Hits) -> None:
    text = hits._repr_html_()
    assert "&lt;script&gt;" in text
    assert "<script" not in text


def test_provenance_and_summary(hits: Hits) -> None:
    assert hits.provenance.dataset == hits.cache.dataset.id
    assert hits.provenance.shards_read == hits.cache.shard_count
    assert hits.provenance.seconds > 0
    assert repr(hits).startswith("<Hits: 5 of 11 images, best 0.")
    assert len(hits) == 5


def test_the_figure_draws_and_untrusted_labels_are_plain_text(hits: Hits, tmp_path: Path) -> None:
    hits.figure(columns=3).savefig(tmp_path / "hits.png")
    assert (tmp_path / "hits.png").stat().st_size > 10_000


def test_a_missing_preview_is_drawn_as_a_gray_box(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(self: Dataset, row: int) -> bytes:
        raise NotFoundError("no preview")

    monkeypatch.setattr(Dataset, "preview", missing)
    figure = search(cache, query_from_row(cache, 0, boxes=[(16, 12, 48, 36)]), 2).figure()
    figure.savefig(tmp_path / "hits.png")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts.count("no preview") == 3
