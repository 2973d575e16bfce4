import copy
import urllib.error

import pytest
import torch
from torch import nn

from vfs_ops.errors import (
    CheckpointError,
    InvalidNameError,
    MissingDependencyError,
    ModelError,
    SpecError,
    UnavailableError,
    UnknownModelError,
)
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.models import model_libraries
from vfs_ops.models.loading import load_model, weights_fingerprint

# Made by hand from the lengths, names, headers and bytes of two tensors.
PINNED = "7208054219aa0fd57440e6b9b97ce21ed904b22947ac75885459d2e1ea8e61d3"
SMALL = Preprocessing(Resize("exact", (32, 32)), None)


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_efficientnet_lite0_has_its_packaged_weights():
    model = load_model("efficientnet-lite0")
    assert model.weights == "package"
    assert model.preprocessing == Preprocessing(
        Resize("short", (256,), "bicubic"), (224, 224), mean=(0.5,) * 3, std=(0.5,) * 3
    )
    assert model.fingerprint == "a250ab417541a771152a948969f7ea30d341deb03b458f5181e3faa768a5850a"
    assert not model.module.training
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(model_libraries.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"\[demo\]"):
        load_model("efficientnet-lite1")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("resnet50", "torchvision:resnet50 or timm:resnet50"),
        ("torchvision:resnet5", "torchvision:resnet50"),
        ("timm:resnt50", "timm:resnet50"),
        ("efficientnet-lite9", "efficientnet-lite0"),
        ("timm:resnet50.a1_in1k", "'a1_in1k' as weights"),
        ("timm:hf-hub:timm/resnet50", "no model"),
        ("timm:hf_hub:timm/resnet50", "no model"),
        ("timm:local-dir:/etc", "no model"),
        ("hf-hub:timm/resnet50", "no model"),
        ("torchvision:quantized_resnet50", "no model"),
        ("torchvision:RESNET50", "no model"),
        ("custom:mine", "torch.nn.Module"),
        ("", "no model"),
    ],
)
def test_unknown_models_are_refused_with_close_names(reference, said):
    with pytest.raises(UnknownModelError, match=said.replace("[", r"\[")):
        load_model(reference)


@pytest.mark.parametrize(
    ("reference", "known"),
    [("torchvision:resnet50", "IMAGENET1K_V2"), ("timm:resnet50", "a1_in1k")],
)
def test_unknown_weights_are_refused_with_known_ones(reference, known):
    with pytest.raises(UnknownModelError, match=known):
        load_model(reference, weights="nonsense")


def test_random_weights_are_seeded_and_leave_the_callers_generator():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = load_model("torchvision:resnet18", weights="random:5")
    assert torch.equal(torch.rand(2), expected)
    second = load_model("torchvision:resnet18", weights="random:5")
    other = load_model("torchvision:resnet18", weights="random:6")
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert first.weights == "random:5"
    assert first.preprocessing.mean == (0.485, 0.456, 0.406)


def test_a_checkpoint_takes_the_place_of_the_weights(tmp_path):
    source = load_model("timm:test_resnet", weights="random:1")
    torch.save(source.module.state_dict(), tmp_path / "a.pth")
    loaded = load_model("timm:test_resnet", checkpoint=tmp_path / "a.pth")
    assert (loaded.weights, loaded.fingerprint) == ("checkpoint", source.fingerprint)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_model("timm:test_vit", checkpoint=tmp_path / "a.pth")
    with pytest.raises(ModelError, match="one of them"):
        load_model("timm:test_resnet", weights="random:1", checkpoint=tmp_path / "a.pth")


def test_weights_that_cannot_be_downloaded_say_what_to_do(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("https://host/file?token=hunter2")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UnavailableError, match="give it as checkpoint") as caught:
        load_model("torchvision:resnet18", weights="IMAGENET1K_V1")
    assert "hunter2" not in str(caught.value)


def test_a_model_without_weights_says_so(monkeypatch):
    found = model_libraries.find_architecture("timm:test_vit", None)
    assert found.weights is not None  # its weights exist; one without is made here
    bare = model_libraries.Architecture(found.reference, None, found.create, found.preprocessing)
    monkeypatch.setattr("vfs_ops.models.loading.find_architecture", lambda *_: bare)
    with pytest.raises(UnknownModelError, match="random:0"):
        load_model("timm:test_vit")


def test_a_model_for_other_than_classification_needs_preprocessing():
    with pytest.raises(SpecError, match="give preprocessing"):
        load_model("torchvision:lraspp_mobilenet_v3_large", weights="random:0")
    model = load_model(
        "torchvision:lraspp_mobilenet_v3_large", weights="random:0", preprocessing=SMALL
    )
    assert model.preprocessing == SMALL


@pytest.mark.parametrize("name", ["r3d_18", "swin3d_t"])
def test_a_model_of_videos_is_refused(name):
    with pytest.raises(ModelError, match=f"torchvision:{name} takes videos"):
        load_model(f"torchvision:{name}", weights="random:0", preprocessing=SMALL)


def test_a_model_with_kernels_of_five_axes_is_loaded():
    model = load_model("timm:lambda_resnet26t", weights="random:0")
    kernels = {tensor.ndim: tensor for tensor in model.module.parameters()}
    assert 5 in kernels
    assert kernels[4].is_contiguous(memory_format=torch.channels_last)


def test_a_module_is_copied_and_named():
    module = small()
    model = load_model(module, name="mine", preprocessing=SMALL)
    assert (model.reference, model.weights) == ("custom:mine", "given")
    assert module.training
    assert module[0].weight.requires_grad
    with torch.no_grad():
        module[0].weight.add_(1)
    assert weights_fingerprint(model.module) == model.fingerprint != weights_fingerprint(module)


def test_a_module_needs_name_and_preprocessing():
    with pytest.raises(ModelError, match="name="):
        load_model(small(), preprocessing=SMALL)
    with pytest.raises(ModelError, match="preprocessing="):
        load_model(small(), name="mine")
    with pytest.raises(InvalidNameError):
        load_model(small(), name="../mine", preprocessing=SMALL)
    with pytest.raises(ModelError, match="has its own"):
        load_model(small(), name="mine", weights="DEFAULT", preprocessing=SMALL)
    with pytest.raises(ModelError, match="names modules"):
        load_model("efficientnet-lite0", name="mine")
    keeps = small()
    keeps.kept = keeps[0].weight * 2
    with pytest.raises(ModelError, match="cannot be copied"):
        load_model(keeps, name="mine", preprocessing=SMALL)


def test_prefix_tokens_are_counted():
    assert load_model("timm:test_vit", weights="random:0").num_prefix_tokens == 1
    assert load_model("timm:test_resnet", weights="random:0").num_prefix_tokens == 0
    module = small()
    module.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
    module.register_tokens = nn.Parameter(torch.zeros(1, 4, 8))
    assert load_model(module, name="m", preprocessing=SMALL).num_prefix_tokens == 5


def test_the_fingerprint_ignores_layout_mode_and_order():
    module = small()
    expected = weights_fingerprint(module)
    assert weights_fingerprint(copy.deepcopy(module).eval().requires_grad_(False)) == expected
    moved = copy.deepcopy(module).to(memory_format=torch.channels_last)
    assert weights_fingerprint(moved) == expected
    reordered = copy.deepcopy(module)
    reordered[0]._parameters = dict(reversed(reordered[0]._parameters.items()))
    assert weights_fingerprint(reordered) == expected


def one_element(module):
    module[0].weight.data[0, 0, 0, 0] += 1e-6


def one_dtype(module):
    module[0].bias.data = module[0].bias.data.double()


def one_shape(module):
    module[0].bias.data = module[0].bias.data.reshape(2, 2)


def one_name(module):
    module[0].other = module[0].bias
    module[0]._parameters.pop("bias")


def one_buffer(module):
    module[1].running_mean += 1


def one_unsaved_buffer(module):
    module.register_buffer("index", torch.zeros(2), persistent=False)


def one_alias(module):
    module[1].alias = module[
        0
    ].weight  # under a later name, so that a walk without it would skip it


@pytest.mark.parametrize(
    "change",
    [one_element, one_dtype, one_shape, one_name, one_buffer, one_unsaved_buffer, one_alias],
)
def test_the_fingerprint_sees(change):
    module = small()
    before = weights_fingerprint(module)
    change(module)
    assert weights_fingerprint(module) != before


def test_the_fingerprint_is_pinned():
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 2.0]]))
        module.bias.zero_()
    assert weights_fingerprint(module) == PINNED
    assert weights_fingerprint(module.bfloat16()) != PINNED


def test_a_module_without_values_has_no_fingerprint():
    with pytest.raises(ModelError, match="fully initialised"):
        weights_fingerprint(nn.Linear(2, 1, device="meta"))
    with pytest.raises(ModelError, match="fully initialised"):
        weights_fingerprint(nn.LazyLinear(2))
