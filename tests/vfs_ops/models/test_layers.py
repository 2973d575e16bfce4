from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from vfs_ops.errors import ModelError, NotAFeatureMapError, UnknownModelError
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.models.layers import LayerInfo, find_layers, list_layers
from vfs_ops.models.loading import load_model


def load(module, height=32, width=32):
    return load_model(
        module, name="m", preprocessing=Preprocessing(Resize("exact", (height, width)), None)
    )


class Returns(nn.Module):
    """A model whose one layer returns something made of a batch size."""

    def __init__(self, make, **attributes):
        super().__init__()
        self.layer = Makes(make)
        self.unused = nn.Conv2d(3, 3, 1)
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        self.layer(x)
        return x


class Makes(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(len(x))


class Patches(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.grid_size, self.patch_size = None, (side, side)


def zeros(*shape):
    return lambda images: torch.zeros(images, *shape)


@pytest.mark.parametrize(
    ("shape", "size", "axes", "grid", "channels"),
    [
        ((5, 8, 8), (32, 32), "nchw", (8, 8), 5),
        ((8, 8, 5), (32, 32), "nhwc", (8, 8), 5),
        ((8, 8, 8), (32, 32), "nchw", (8, 8), 8),  # ambiguous
        ((7, 7, 8), (32, 32), "nhwc", (7, 7), 8),  # the better fit
        ((5, 6, 8), (48, 64), "nchw", (6, 8), 5),
        ((6, 8, 5), (48, 64), "nhwc", (6, 8), 5),
        ((5, 15, 12), (480, 360), "nchw", (15, 12), 5),  # a stride of 32, rounded up
        ((64, 5), (32, 32), "tokens", (8, 8), 5),
        ((12, 5), (48, 64), "tokens", (3, 4), 5),
    ],
)
def test_axes_are_read_by_the_proportions_of_the_input(shape, size, axes, grid, channels):
    model = load(Returns(zeros(*shape)), *size)
    assert list_layers(model) == [
        LayerInfo(
            "layer", "layer", None, axes, 0, grid, channels, (size[0] / grid[0], size[1] / grid[1])
        )
    ]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (zeros(5), r"shape \(2, 5\)"),
        (zeros(5, 1, 1), "single cell"),
        (zeros(1, 5), "single cell"),
        (zeros(63, 5), "proportion"),
        (zeros(5, 8, 4), "proportion"),
        (zeros(0, 5), "shape"),
        (lambda images: torch.zeros(4 * images, 5, 8, 8), "for 2 images"),
        (lambda images: torch.zeros(5, 8, 8), "for 2 images"),
        (lambda images: "text", "no tensor"),
        (lambda images: None, "no tensor"),
    ],
)
def test_other_outputs_are_no_feature_maps(make, reason):
    model = load(Returns(make))
    assert list_layers(model) == []
    with pytest.raises(NotAFeatureMapError, match=reason):
        find_layers(model, ["layer"])


@pytest.mark.parametrize(
    ("length", "grid", "prefix"),
    [(65, (8, 8), 1), (64, (8, 8), 0), (17, (4, 4), 1), (10, None, 0), (26, None, 0)],
)
def test_tokens_fold_to_the_stated_grid_or_a_coarser_one(length, grid, prefix):
    module = Returns(zeros(length, 5), num_prefix_tokens=1, patch_embed=Patches(4))
    found = [info for info in list_layers(load(module)) if info.layer == "layer"]
    assert [(info.grid, info.prefix_tokens) for info in found] == ([(grid, prefix)] if grid else [])


@pytest.mark.parametrize("attributes", [{"patch_embed": Patches(4)}, {}])
def test_attention_weights_are_no_feature_map(attributes):
    module = Returns(zeros(3, 65, 65), num_prefix_tokens=1, **attributes)
    with pytest.raises(NotAFeatureMapError):
        find_layers(load(module), ["layer"])


def of_shares(*shape, axis):
    """Return what makes outputs that sum up to one along an axis, as a softmax's do."""
    values = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    return lambda images: values.softmax(axis)


@pytest.mark.parametrize(
    "make",
    [
        of_shares(3, 8, 8, axis=-1),
        of_shares(3, 8, 8, axis=-2),
        of_shares(8, 8, 3, axis=2),  # (token, token, head)
        of_shares(64, 64, axis=-1),  # one head, folded to tokens
    ],
)
def test_what_a_softmax_returns_along_rows_or_columns_is_no_feature_map(make):
    model = load(Returns(make))
    assert list_layers(model) == []
    with pytest.raises(NotAFeatureMapError, match="attention weights"):
        find_layers(model, ["layer"])


@pytest.mark.parametrize("make", [of_shares(3, 8, 8, axis=1), of_shares(64, 5, axis=-1)])
def test_classes_of_each_cell_are_a_feature_map(make):
    assert [info.layer for info in list_layers(load(Returns(make)))] == ["layer"]


class Around(nn.Module):
    """A module that returns (token, channel), with a layer inside."""

    def __init__(self, inside, returned):
        super().__init__()
        self.bias, self.returned = Makes(zeros(*inside)), Makes(zeros(*returned))

    def forward(self, x):
        self.bias(x)
        return self.returned(x)


class CrossCovarianceAttn(Around):
    """The same, with a name that says what it is."""


@pytest.mark.parametrize(
    ("inside", "returned"),
    [((3, 16, 16), (16, 30)), ((4, 12, 12), (64, 48)), ((16, 16, 3), (16, 30))],
)
@pytest.mark.parametrize(("cls", "name"), [(Around, "attn"), (CrossCovarianceAttn, "mixer")])
def test_tokens_by_tokens_and_channels_by_channels_inside_an_attention_are_refused(
    inside, returned, cls, name
):
    model = load(nn.Sequential(OrderedDict({name: cls(inside, returned)})))
    assert f"{name}.bias" not in [info.layer for info in list_layers(model)]
    with pytest.raises(NotAFeatureMapError, match="attention weights"):
        find_layers(model, [f"{name}.bias"])
    stem = load(nn.Sequential(OrderedDict(stem=Around(inside, returned))))
    assert "stem.bias" in [info.layer for info in list_layers(stem)]


def test_maps_inside_an_attention_stay_feature_maps():
    model = load(nn.Sequential(OrderedDict(attn=Around((48, 4, 4), (64, 48)))))
    assert "attn.bias" in [info.layer for info in list_layers(model)]


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "swin_tiny_patch4_window7_224", "xcit_nano_12_p16_224", "gcvit_xxtiny"),
        *("edgenext_xx_small", "fastvit_t8"),
    ],
)
def test_a_change_of_the_image_changes_the_map_there(name):
    model = load_model(f"timm:{name}", weights="random:0")
    layers = [
        info
        for info in list_layers(model)
        if info.axes != "tokens" and min(info.grid) > 7  # coarser ones see the whole image
    ]
    height, width = model.preprocessing.input_size
    random = np.random.default_rng(0)
    pixels = random.integers(100, 156, (2, height, width, 3), np.uint8)
    pixels[1] = pixels[0]
    pixels[1, height // 8 : height // 4, 5 * width // 8 : 3 * width // 4] = random.integers(
        0, 256, (height // 4 - height // 8, 3 * width // 4 - 5 * width // 8, 3)
    )
    extractor = FeatureExtractor(model, [info.name for info in layers], device="cpu")
    far = []
    for info, features in zip(layers, extractor.features(pixels), strict=True):
        change = np.linalg.norm(features[1] - features[0], axis=-1)
        y, x = ((np.arange(cells) + 0.5) / cells for cells in info.grid)
        near = np.hypot(y[:, np.newaxis] - 3 / 16, x - 11 / 16) < 0.25
        if change.any() and change[near].mean() < 1.3 * change[~near].mean():
            far.append(info.name)
    assert len(layers) > 20
    assert far == []


def test_outputs_of_sequences_and_mappings_are_addressed():
    def make(images):
        return {"0": torch.zeros(images, 5, 8, 8), "deep": torch.zeros(images, 5, 4, 4), "n": 3}

    model = load(Returns(make))
    assert [info.name for info in list_layers(model)] == ["layer#0", "layer#deep"]
    assert [info.output for info in find_layers(model, ["layer#deep", "layer#0"])] == ["deep", "0"]
    with pytest.raises(NotAFeatureMapError, match="choose one of layer#0, layer#deep"):
        find_layers(model, ["layer"])
    pair = load(Returns(lambda images: (None, torch.zeros(images, 5, 8, 8))))
    assert [(info.name, info.output) for info in list_layers(pair)] == [("layer#1", 1)]
    for name in ("layer#0", "layer#7", "layer#deep"):
        with pytest.raises(NotAFeatureMapError, match="choose one of layer#1"):
            find_layers(pair, [name])
    with pytest.raises(NotAFeatureMapError, match="takes no '#'"):
        find_layers(load(Returns(zeros(5, 8, 8))), ["layer#0"])


def test_names_that_cannot_be_used():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten())
    model = load(module)
    with pytest.raises(NotAFeatureMapError, match="nearby that are: 1, 0"):
        find_layers(model, ["2"])
    for names in ([], ["0", "0"]):
        with pytest.raises(ModelError, match="each once"):
            find_layers(model, names)
    for name in ("", "nothing", "0.weight", "../0"):
        with pytest.raises(UnknownModelError):
            find_layers(model, [name])
    with pytest.raises(NotAFeatureMapError, match="not called"):
        find_layers(load(Returns(zeros(5, 8, 8))), ["unused"])


def test_an_unknown_layer_gets_close_names():
    model = load_model("efficientnet-lite0", weights="random:0")
    with pytest.raises(UnknownModelError, match=r"blocks\.6"):
        find_layers(model, ["block.6"])


def test_a_preprocessing_that_the_model_cannot_take_is_named():
    model = load(nn.Sequential(nn.Conv2d(1, 4, 3)))
    with pytest.raises(ModelError, match=r"\(2, 3, 32, 32\)"):
        list_layers(model)


def test_layers_of_efficientnet_lite0():
    layers = {info.name: info for info in list_layers(load_model("efficientnet-lite0"))}
    assert (layers["blocks.6"].grid, layers["blocks.6"].channels) == ((7, 7), 320)
    assert layers["blocks.4"].stride == (16.0, 16.0)
    assert "" not in layers
    assert "bn1.drop" not in layers  # an Identity
    assert "classifier" not in layers


@pytest.mark.parametrize(
    ("reference", "layer", "axes", "prefix", "grid"),
    [
        ("timm:vit_tiny_patch16_224", "blocks.3", "tokens", 1, (14, 14)),
        ("timm:vit_tiny_patch16_224", "patch_embed", "tokens", 0, (14, 14)),
        ("timm:deit_tiny_distilled_patch16_224", "blocks.3", "tokens", 2, (14, 14)),
        ("torchvision:vit_b_32", "encoder.layers.encoder_layer_3", "tokens", 1, (7, 7)),
        ("timm:swin_tiny_patch4_window7_224", "layers.2", "nhwc", 0, (14, 14)),
        ("torchvision:swin_t", "features.1", "nhwc", 0, (56, 56)),
        ("torchvision:resnet18", "layer3", "nchw", 0, (14, 14)),
    ],
)
def test_layers_of_the_libraries(reference, layer, axes, prefix, grid):
    [info] = find_layers(load_model(reference, weights="random:0"), [layer])
    assert (info.axes, info.prefix_tokens, info.grid) == (axes, prefix, grid)


def test_tokens_in_another_order_are_not_folded():
    model = load_model("timm:hiera_tiny_224", weights="random:0")
    with pytest.raises(NotAFeatureMapError):
        find_layers(model, ["blocks.0"])


def test_the_bytes_of_a_cache():
    info = LayerInfo("a", "a", None, "nchw", 0, (3, 4), 5, (1.0, 1.0))
    assert info.cache_bytes(10) == 10 * (12 * 5 * 2 + 12 * 4 + 1)
    assert info.cache_bytes(10, "float32") == 10 * (12 * 5 * 4 + 12 * 4 + 1)
