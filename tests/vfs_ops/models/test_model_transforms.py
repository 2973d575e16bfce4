import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform
from torchvision import models
from torchvision.transforms._presets import ImageClassification, SemanticSegmentation

from vfs_ops.errors import SpecError
from vfs_ops.images.decoding import fit
from vfs_ops.models.forward import normalise
from vfs_ops.models.model_transforms import from_timm, from_torchvision

SIZES = [(320, 240), (241, 333), (97, 60), (225, 224), (30, 400)]
CONFIG = {
    "input_size": (3, 96, 96),
    "interpolation": "bicubic",
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.4),
    "crop_pct": 0.9,
    "crop_mode": "center",
}


def picture(size):
    values = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def assert_same(preprocessing, transform, size):
    image = picture(size)
    ours = normalise(fit(image, preprocessing)[np.newaxis], preprocessing, torch.device("cpu"))
    assert torch.equal(ours[0], transform(image))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "weights",
    [
        models.ResNet50_Weights.IMAGENET1K_V1,
        models.ResNet50_Weights.IMAGENET1K_V2,
        models.Swin_T_Weights.IMAGENET1K_V1,
        models.Inception_V3_Weights.IMAGENET1K_V1,
        models.RegNet_Y_16GF_Weights.IMAGENET1K_SWAG_E2E_V1,
    ],
)
def test_torchvision_transforms_give_the_same_values(weights, size):
    transform = weights.transforms()
    assert_same(from_torchvision(transform, "m"), transform, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"crop_pct": 0.882, "interpolation": "bilinear"},
        {"crop_pct": 1.0},
        {"crop_mode": "squash"},
        {"crop_mode": "squash", "crop_pct": 1.0},
        {"crop_mode": "squash", "input_size": (3, 64, 96)},
    ],
)
def test_timm_transforms_give_the_same_values(change, size):
    config = {**CONFIG, **change}
    assert_same(from_timm(config, "m"), create_transform(**config), size)


@pytest.mark.parametrize("reference", ["tf_efficientnet_lite0", "resnet50", "vit_tiny_patch16_224"])
def test_timm_default_configurations_are_understood(reference):
    config = timm.get_pretrained_cfg(reference).to_dict()
    resolved = timm.data.resolve_data_config(pretrained_cfg=config)
    assert_same(from_timm(resolved, "m"), create_transform(**resolved), (300, 280))


@pytest.mark.parametrize(
    "change",
    [
        {"crop_mode": "border"},
        {"input_size": (4, 96, 96)},
        {"input_size": (3, 64, 96)},
        {"interpolation": "hamming"},
    ],
)
def test_timm_configurations_that_cannot_be_said_are_refused(change):
    with pytest.raises(SpecError, match="give preprocessing"):
        from_timm({**CONFIG, **change}, "timm:m")


def test_gray_models_get_gray_images():
    config = {**CONFIG, "input_size": (1, 96, 96), "mean": (0.5,), "std": (0.5,)}
    assert from_timm(config, "m").color == "gray"


@pytest.mark.parametrize("transform", [None, SemanticSegmentation(resize_size=520)])
def test_torchvision_transforms_without_a_size_are_refused(transform):
    with pytest.raises(SpecError, match="give preprocessing"):
        from_torchvision(transform, "torchvision:m")


def test_torchvision_antialiases_pillow_images_whatever_it_is_told():
    told = from_torchvision(ImageClassification(crop_size=64, antialias=False), "m")
    assert told == from_torchvision(ImageClassification(crop_size=64), "m")
