import copy
import hashlib

import numpy as np
import pytest
from torch import nn

from vfs_ops.errors import ExtractorMismatchError
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.models.loading import load_model
from vfs_ops.models.probe import check_probe, probe, probe_image


def test_the_probe_image_never_changes():
    image = probe_image()
    assert (image.mode, image.size) == ("RGB", (480, 360))
    assert hashlib.sha256(image.tobytes()).hexdigest() == (
        "d7406b7419bc29a179a6d9d9ea65d856c3361be1450bdef4cb2091156efc9f8c"
    )


def test_a_probe_agrees_with_itself_and_across_precisions():
    model = load_model("efficientnet-lite0")
    layers = ["blocks.4", "conv_head"]
    exact = probe(FeatureExtractor(model, layers, device="cpu"))
    half = probe(FeatureExtractor(model, layers, precision="bfloat16", device="cpu"))
    assert [features.shape for features in exact] == [(14, 14, 112), (7, 7, 1280)]
    for mine, rounded in zip(exact, half, strict=True):
        check_probe(mine, mine, "cache")
        check_probe(mine.astype(np.float16), mine, "cache")
        check_probe(mine, rounded, "cache", "bfloat16")
        check_probe(rounded, mine, "cache", "bfloat16")


def other_activation(module):
    for part in module.modules():
        if hasattr(part, "act") and isinstance(part.act, nn.ReLU6):
            part.act = nn.SiLU()


def other_epsilon(module):
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.eps == 1e-3
            part.eps = 1e-5


def other_padding(module):
    stem = module.conv_stem
    stem.forward = lambda x: nn.functional.conv2d(x, stem.weight, None, 2, 1)


@pytest.fixture(scope="module")
def lite():
    """Return EfficientNet-Lite0 and its probe at the last block."""
    model = load_model("efficientnet-lite0")
    return model, probe(FeatureExtractor(model, ["blocks.6"], device="cpu"))[0]


@pytest.fixture(scope="module", params=[other_activation, other_epsilon, other_padding])
def changed(request, lite):
    """Return that probe with the same weights under other code."""
    module = copy.deepcopy(lite[0].module)
    request.param(module)
    model = load_model(module, name="m", preprocessing=lite[0].preprocessing)
    assert model.fingerprint == lite[0].fingerprint
    return probe(FeatureExtractor(model, ["blocks.6"], device="cpu"))[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_other_forward_code_is_seen(lite, changed, precision):
    with pytest.raises(ExtractorMismatchError, match="cosine"):
        check_probe(lite[1], changed, "cache abc", precision)


def test_gray_models_get_the_probe_in_gray():
    preprocessing = Preprocessing(Resize("exact", (32, 32)), None, color="gray")
    model = load_model(nn.Sequential(nn.Conv2d(1, 2, 1)), name="m", preprocessing=preprocessing)
    [features] = probe(FeatureExtractor(model, ["0"], device="cpu"))
    assert features.shape == (32, 32, 2)


def cells(*vectors):
    return np.array(vectors, np.float32)[np.newaxis]


@pytest.mark.parametrize(
    ("now", "agrees"),
    [
        (cells([100, 0], [0, 100], [0, 0]), True),
        (cells([101, 0], [0, 99], [0, 0]), True),
        (cells([100, 0], [0, 100], [0.1, 0]), True),  # faint in both
        (cells([100, 0], [0, 100], [20, 0]), False),  # faint in one
        (cells([110, 0], [0, 100], [0, 0]), False),
        (cells([100, 8], [0, 100], [0, 0]), False),
        (cells([0, 100], [100, 0], [0, 0]), False),
        (cells([-100, 0], [0, -100], [0, 0]), False),
        (cells([0, 0], [0, 0], [0, 0]), False),
        (cells([100, 0], [0, 100], [np.nan, 0]), False),
        (cells([100, 0], [0, np.inf], [0, 0]), False),
        (cells([100, 0], [0, 100]), False),
        (cells([100, 0, 0], [0, 100, 0], [0, 0, 0]), False),
    ],
)
def test_every_cell_counts(now, agrees):
    stored = cells([100, 0], [0, 100], [0, 0])
    if agrees:
        check_probe(stored, now, "cache abc")
    else:
        with pytest.raises(ExtractorMismatchError, match="cache abc"):
            check_probe(stored, now, "cache abc")


def test_probes_of_nothing_agree():
    check_probe(np.zeros((2, 2, 3)), np.zeros((2, 2, 3)), "cache abc")
