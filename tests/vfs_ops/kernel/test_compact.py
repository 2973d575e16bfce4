from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_cases import block_of

from vfs_ops.caches.values import squared_norms
from vfs_ops.kernel import compact
from vfs_ops.kernel.blocks import Block
from vfs_ops.kernel.compact import compact_bytes, compact_pays


def feature_maps(kind: str, rng: np.random.Generator, channels: int = 32) -> np.ndarray:
    features = rng.standard_normal((50, 5, 5, channels))
    if kind != "signed":
        features = np.maximum(features, 0)
    if kind == "peaks":
        features[..., 0] *= 100
    if kind == "two levels":  # every value in the middle between two steps
        features = rng.integers(0, 2, features.shape) * 0.5 / 255
        features[..., 0] = 1
    if kind == "tiny":
        features *= 1e-14
    if kind == "huge":
        features *= 1e17
    features[7] = 0
    features[8, 1:3] = 0
    return features.astype(np.float32 if kind in ("tiny", "huge") else np.float16)


@pytest.mark.parametrize("kind", ["signed", "relu", "peaks", "two levels", "tiny", "huge"])
def test_what_is_lost_is_measured_and_at_right_angles_to_what_is_kept(kind: str) -> None:
    features = feature_maps(kind, np.random.default_rng(1))
    for tile in block_of(features, "compact").tiles:
        levels = tile.values.double().add(tile.zero)
        kept = levels.mul(tile.scales.double()[..., None]).permute(2, 0, 1, 3).numpy()
        lost = features.astype(np.float64) - kept
        squared = (lost**2).sum(axis=3)
        held = tile.lost.permute(2, 0, 1).numpy()
        assert (squared <= held).all()
        assert (held <= 1.01 * squared + 2.0**-19 * (kept**2).sum(axis=3)).all()
        norm = (features.astype(np.float64) ** 2).sum(axis=3)
        shares = np.sqrt(squared / np.where(norm > 0, norm, 1))
        assert (shares.max(axis=(1, 2)) <= tile.share.numpy()).all()
        along = np.abs((lost * kept).sum(axis=3))
        assert (along <= 2.0**-21 * (kept**2).sum(axis=3)).all()
        assert (kept[7] == 0).all()


def test_values_without_a_sign_use_all_steps() -> None:
    rng = np.random.default_rng(0)
    [signed] = block_of(feature_maps("signed", rng), "compact").tiles
    [relu] = block_of(feature_maps("relu", rng), "compact").tiles
    assert (signed.zero, relu.zero) == (0, 128)
    assert int(relu.values.min()) == -128
    assert int(relu.values.max()) == 127


def test_a_resident_block_says_how_large_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    features = feature_maps("relu", np.random.default_rng(0))
    block = Block.of(features, squared_norms(features))
    assert block.nbytes == features.nbytes + 4 * 50 * 25
    monkeypatch.setattr("vfs_ops.kernel.blocks.compact_pays", lambda channels: True)
    monkeypatch.setattr(compact, "compact_pays", lambda channels: True)
    resident = block.resident()
    assert resident.nbytes == block.nbytes + compact_bytes(50, 25, 32)
    assert resident.resident() is resident
    monkeypatch.setattr("vfs_ops.kernel.blocks.compact_pays", lambda channels: False)
    assert block.resident() is block


def test_channels_that_the_bound_does_not_cover_are_never_compact() -> None:
    assert not compact_pays(7)
    assert not compact_pays(16_000)
    assert compact_bytes(10, 49, 7) == 0


def test_the_processor_says_whether_the_compact_form_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = torch._int_mm
    for there, wrong_from, pays in [
        ("amx-int8", 99, True),
        ("", 99, False),
        ("avxvnni", 80, False),
    ]:
        compact_pays.cache_clear()
        monkeypatch.setattr(compact, "has", lambda feature, there=there: feature == there)
        monkeypatch.setattr(
            torch,
            "_int_mm",
            lambda one, other, wrong=wrong_from: multiply(one, other) + (len(one) >= wrong),
        )
        assert compact_pays(64) == pays
    compact_pays.cache_clear()
