import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vfs_ops.errors import ModelError, SpecError
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.images.decoding import fit
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.models.forward import normalise
from vfs_ops.models.loading import load_model

PREPROCESSING = Preprocessing(Resize("exact", (32, 32)), None, mean=(0.5,) * 3, std=(0.5,) * 3)
CPU = torch.device("cpu")


def load(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return load_model(module, name="m", preprocessing=PREPROCESSING)


def pixels(images, side=32):
    values = np.random.default_rng(images).integers(0, 256, (images, side, side, 3))
    return values.astype(np.uint8)


def assert_own_maps(maps, shapes):
    for features, shape in zip(maps, shapes, strict=True):
        assert features.shape == shape
        assert features.dtype == np.float32
        assert features.flags.c_contiguous
        assert features.flags.writeable


def test_efficientnet_lite0_to_feature_maps():
    model = load_model("efficientnet-lite0")
    extractor = FeatureExtractor(model, ["blocks.6", "blocks.4"], device="cpu")
    image = Image.fromarray(pixels(1, 300)[0])
    given = np.stack([extractor.prepare(image), extractor.prepare(image.rotate(90))])
    np.testing.assert_array_equal(given[0], fit(image, model.preprocessing))
    maps = extractor.features(given)
    assert_own_maps(maps, [(2, 7, 7, 320), (2, 14, 14, 112)])
    kept = {}
    model.module.blocks[6].register_forward_hook(lambda m, i, o: kept.update(o=o.clone()))
    with torch.no_grad():
        model.module(normalise(given, model.preprocessing, CPU))
    np.testing.assert_allclose(maps[0], kept["o"].permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4)
    assert [spec.layer for spec in extractor.specs] == ["blocks.6", "blocks.4"]
    assert extractor.specs[0].weights == model.fingerprint
    assert extractor.specs[0].id != extractor.specs[1].id


def test_what_follows_in_place_does_not_reach_the_map():
    model = load(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True)))
    before, after = FeatureExtractor(model, ["0", "1"], device="cpu").features(pixels(2))
    assert before.min() < 0
    np.testing.assert_array_equal(np.maximum(before, 0), after)


@pytest.mark.parametrize("channels_last", [False, True])
def test_maps_are_memory_of_their_own(channels_last):
    class Keeps(nn.Module):
        def forward(self, x):
            self.kept = x.permute(0, 2, 3, 1).contiguous() if channels_last else x
            return self.kept

    extractor = FeatureExtractor(load(Outer(Keeps())), ["inner"], device="cpu")
    [features] = extractor.features(pixels(2))
    before = features.copy()
    with torch.inference_mode():
        extractor.model.module.inner.kept.zero_()
    np.testing.assert_array_equal(features, before)


class Outer(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def test_the_last_call_of_a_layer_counts():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.conv(self.conv(x))

    model = load(Twice())
    given = pixels(2)
    [features] = FeatureExtractor(model, ["conv"], device="cpu").features(given)
    with torch.no_grad():
        expected = model.module(normalise(given, PREPROCESSING, CPU))
    np.testing.assert_allclose(features, expected.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


def test_tokens_are_folded_row_by_row_without_their_prefix():
    class Tokens(nn.Module):
        num_prefix_tokens = 2

        def __init__(self):
            super().__init__()
            self.tokens = nn.Identity()

        def forward(self, x):
            grid = x[:, :, ::4, ::4].flatten(2).transpose(1, 2)
            return self.tokens(torch.cat([torch.full_like(grid[:, :2], 99.0), grid], 1))

    model = load(Tokens())
    given = pixels(3)
    extractor = FeatureExtractor(model, ["tokens"], device="cpu")
    [features] = extractor.features(given)
    assert_own_maps([features], [(3, 8, 8, 3)])
    expected = normalise(given, PREPROCESSING, CPU).permute(0, 2, 3, 1)[:, ::4, ::4]
    np.testing.assert_array_equal(features, expected)
    assert (extractor.specs[0].axes, extractor.specs[0].prefix_tokens) == ("tokens", 2)


def test_channels_last_layers_and_outputs_by_key():
    class Pair(nn.Module):
        def forward(self, x):
            return {"a": x, "b": x.permute(0, 2, 3, 1)[:, ::2, ::2]}

    extractor = FeatureExtractor(load(Outer(Pair())), ["inner#b", "inner#a"], device="cpu")
    given = pixels(2)
    halved, full = extractor.features(given)
    assert_own_maps([halved, full], [(2, 16, 16, 3), (2, 32, 32, 3)])
    np.testing.assert_array_equal(full[:, ::2, ::2], halved)
    assert [spec.output for spec in extractor.specs] == ["b", "a"]


def test_rows_do_not_depend_on_other_rows():
    model = load_model("torchvision:resnet18", weights="random:0")
    extractor = FeatureExtractor(model, ["layer3"], device="cpu")
    given = np.repeat(np.repeat(pixels(4, 112), 2, axis=1), 2, axis=2)
    [together] = extractor.features(given)
    [alone] = extractor.features(given[2:3])
    [again] = extractor.features(given)
    np.testing.assert_allclose(together[2:3], alone, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(together, again)


def test_no_images_give_empty_maps():
    extractor = FeatureExtractor(load(nn.Sequential(nn.Conv2d(3, 4, 1))), ["0"], device="cpu")
    assert_own_maps(extractor.features(pixels(2)[:0]), [(0, 32, 32, 4)])


def test_bfloat16_is_near_float32_and_comes_out_as_float32():
    model = load_model("efficientnet-lite0")
    given = pixels(2, 224)
    [exact] = FeatureExtractor(model, ["blocks.6"], device="cpu").features(given)
    half = FeatureExtractor(model, ["blocks.6"], precision="bfloat16", device="cpu")
    [rounded] = half.features(given)
    assert_own_maps([rounded], [exact.shape])
    assert not np.array_equal(exact, rounded)
    cosine = (exact * rounded).sum() / np.linalg.norm(exact) / np.linalg.norm(rounded)
    assert cosine > 0.98
    with pytest.raises(SpecError, match="GPU"):
        FeatureExtractor(model, ["blocks.6"], precision="float16", device="cpu")


def test_shapes_that_change_with_the_image_are_refused():
    class Moody(nn.Module):
        def forward(self, x):
            return x if x.std() < 0.1 else x[:, :, ::2, ::2]

    extractor = FeatureExtractor(load(Outer(Moody())), ["inner"], device="cpu")
    with pytest.raises(ModelError, match="32×32 cells"):
        extractor.features(pixels(2))


def test_pixels_that_are_not_prepared_are_refused():
    extractor = FeatureExtractor(load(nn.Sequential(nn.Conv2d(3, 4, 1))), ["0"], device="cpu")
    with pytest.raises(ModelError, match=r"\(n, 32, 32, 3\)"):
        extractor.features(pixels(2, 16))
