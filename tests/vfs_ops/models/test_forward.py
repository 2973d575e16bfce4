import threading

import numpy as np
import pytest
import torch
from torch import nn

from vfs_ops.errors import ModelError, SpecError
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.models import forward
from vfs_ops.models.forward import check_precision, choose_device, normalise, run

CPU = torch.device("cpu")
SIZE = Resize("exact", (4, 6))
RGB = Preprocessing(SIZE, None)


def pixels(images=2, channels=3):
    values = np.random.default_rng(0).integers(0, 256, (images, 4, 6, channels))
    return values.astype(np.uint8)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "preprocessing",
    [
        RGB,
        Preprocessing(SIZE, None, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        Preprocessing(SIZE, None, value_range=(-1.0, 1.0), std=(2.0, 3.0, 4.0)),
        Preprocessing(SIZE, None, color="gray", value_range=(-1024.0, 1024.0), mean=(7.0,)),
    ],
)
def test_normalise_is_its_formula(preprocessing, layout):
    given = pixels(channels=preprocessing.channels)
    low, high = preprocessing.value_range
    mean = np.array(preprocessing.mean or [0.0])
    std = np.array(preprocessing.std or [1.0])
    expected = ((given / 255 * (high - low) + low) - mean) / std
    values = normalise(given, preprocessing, CPU, layout)
    assert values.dtype == torch.float32
    assert values.is_contiguous(memory_format=layout)
    np.testing.assert_allclose(values.permute(0, 2, 3, 1), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "given", [pixels(channels=1), pixels()[0], pixels().astype(np.float32), pixels()[:, :, ::2]]
)
def test_pixels_of_another_shape_or_dtype_are_refused(given):
    with pytest.raises(ModelError, match="fit the images"):
        normalise(given, RGB, CPU)


def test_a_model_that_raises_is_named_with_the_shape():
    with pytest.raises(ModelError, match=r"\(2, 3, 4, 6\)") as caught:
        run(nn.Conv2d(5, 1, 1), pixels(), RGB, {})
    assert "\n" not in str(caught.value)


def test_memory_that_runs_out_asks_for_smaller_batches():
    class Full(nn.Module):
        def forward(self, x):
            raise torch.OutOfMemoryError("full")

    with pytest.raises(ModelError, match="smaller batches"):
        run(Full(), pixels(), RGB, {})


def test_hooks_are_taken_off_whatever_happens():
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(7, 1, 1))
    seen = []
    with pytest.raises(ModelError):
        run(module, pixels(), RGB, {"0": seen.append})
    assert len(seen) == 1
    assert not module[0]._forward_hooks


def test_float32_means_float32_and_settings_come_back():
    seen = []

    class Looks(nn.Module):
        def forward(self, x):
            seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
            return x

    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium")
    try:
        run(Looks(), pixels(), RGB, {})
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cudnn.allow_tf32 == before[1]
    finally:
        torch.set_float32_matmul_precision(before[0])
    assert seen == [("highest", False)]


def test_precision_is_what_the_model_computes_in():
    module = nn.Conv2d(3, 2, 1)
    assert run(module, pixels(), RGB, {}).dtype == torch.float32
    assert run(module, pixels(), RGB, {}, "bfloat16").dtype == torch.bfloat16


def test_passes_run_one_at_a_time():
    running, most = [], []

    class Counts(nn.Module):
        def forward(self, x):
            running.append(1)
            most.append(len(running))
            threading.Event().wait(0.01)
            running.pop()
            return x

    module = Counts()
    threads = [threading.Thread(target=run, args=(module, pixels(), RGB, {})) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_devices(monkeypatch):
    assert choose_device("cpu") == CPU
    for name in ("tpu", "meta", "cuda:99", ""):
        with pytest.raises(ModelError, match="cpu"):
            choose_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(None) == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(None).type == "cuda"
    assert choose_device("cuda:1") == torch.device("cuda:1")


def test_precisions():
    check_precision("bfloat16", CPU)
    check_precision("float16", torch.device("cuda"))
    with pytest.raises(SpecError, match="GPU"):
        check_precision("float16", CPU)
    with pytest.raises(SpecError, match="expected one of"):
        check_precision("int8", CPU)


def test_the_layout_follows_the_weights():
    module = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert forward.layout_of(module) == torch.contiguous_format
    assert forward.layout_of(module.to(memory_format=torch.channels_last)) == torch.channels_last
    assert forward.layout_of(nn.Flatten()) == torch.contiguous_format
