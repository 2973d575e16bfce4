"""What overlays compute and refuse, without a browser."""

import numpy as np
import pytest
import traitlets
from overlay_makers import make_mapped

from vfs_ops.errors import QueryError
from vfs_ops.overlays.similarity import similarity_maps
from vfs_ops.widgets import FactorOverlay, SimilarityOverlay, overlay


def test_an_overlay_computes_what_the_operation_does():
    mapped = make_mapped()
    figure = SimilarityOverlay(mapped)
    for layer, image, cell in [(0, 0, (1, 2)), (1, 2, (3, 0)), (0, 1, (0, 0))]:
        found = figure.similarities(image, cell, layer)
        expected = similarity_maps(mapped, image, cell, layer)
        for one, other in zip(found, expected, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_allclose(one, np.stack(other), atol=1e-6)


def test_large_figures_stay_with_python(monkeypatch):
    mapped = make_mapped()
    assert SimilarityOverlay(mapped).figure["compute"] == "browser"
    monkeypatch.setattr(overlay, "BROWSER_BYTES", 1000)
    assert SimilarityOverlay(mapped).figure["compute"] == "python"
    assert SimilarityOverlay(mapped, compute="browser").figure["compute"] == "browser"
    with pytest.raises(QueryError, match="'browser', 'python'"):
        SimilarityOverlay(mapped, compute="gpu")


@pytest.mark.parametrize(
    "pinned",
    [
        {"layer": 0, "image": 3, "row": 0, "column": 0},
        {"layer": 0, "image": 0, "row": 6, "column": 0},
        {"layer": 0, "image": 0, "row": 0},
        {"layer": 0, "image": 0, "row": 0, "column": 1.5},
    ],
)
def test_impossible_pins_are_refused(pinned):
    with pytest.raises(traitlets.TraitError):
        SimilarityOverlay(make_mapped(), pinned=pinned)


def test_groups_need_positive_features_or_a_word():
    with pytest.raises(QueryError, match="negative='split'"):
        FactorOverlay(make_mapped(), 3)
    assert FactorOverlay(make_mapped(), 3, negative="split").factors.count == 3
    with pytest.raises(QueryError, match="layer 2"):
        FactorOverlay(make_mapped(), 3, layer=2)
    figure = FactorOverlay(make_mapped(negative=False), 3, layer=1)
    assert figure.figure["layers"][0]["label"] == "late"
    with pytest.raises(traitlets.TraitError, match="0 to 2"):
        figure.pinned = 3
