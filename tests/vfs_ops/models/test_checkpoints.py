import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from vfs_ops.errors import CheckpointError, NotFoundError
from vfs_ops.models.checkpoints import load_checkpoint, read_state_dict


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_is_found_where_trainers_put_it(tmp_path, wrapper, prefix):
    source, target = small(), small()
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, tmp_path / "a.pth")
    load_checkpoint(target, tmp_path / "a.pth")
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)


def test_safetensors_is_read(tmp_path):
    source = small()
    save_file(source.state_dict(), tmp_path / "a.safetensors")
    read = read_state_dict(tmp_path / "a.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in source.state_dict().items())


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["evil.pth", "evil.safetensors"])
@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, name, writer):
    mark, path = tmp_path / "mark", tmp_path / name
    content = {"state_dict": {"0.weight": Malicious(mark)}}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError):
        read_state_dict(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Malicious(mark))).close()
    assert mark.exists()  # the same pickle does harm where it is trusted


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), zipped=st.booleans())
def test_no_garbage_raises_anything_else(tmp_path_factory, data, zipped):
    path = tmp_path_factory.mktemp("garbage") / "a.pth"
    path.write_bytes(b"PK\x03\x04" + data if zipped else b"\x80\x02" + data)
    with pytest.raises(CheckpointError):
        read_state_dict(path)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    torch.save(small().state_dict(), tmp_path / "a.pth")
    data = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [{}, [torch.zeros(2)], {"a": 3}, {1: torch.zeros(2)}, 7])
def test_other_content_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="expected a state dict"):
        read_state_dict(tmp_path / "a.pth")


def test_places_without_a_checkpoint(tmp_path):
    with pytest.raises(NotFoundError):
        read_state_dict(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="folder"):
        read_state_dict(tmp_path)
    with pytest.raises(CheckpointError, match="local file") as caught:
        read_state_dict("https://example.org/a.pth?token=hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda tensor: tensor.to("meta"),
        lambda tensor: tensor.reshape(4, -1).to_sparse(),
    ],
)
def test_a_tensor_without_plain_values_is_refused(tmp_path, make):
    module = small()
    state = module.state_dict()
    state["0.weight"] = make(state["0.weight"])
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"0\.weight as a tensor of"):
        load_checkpoint(module, tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("0.bias"), "lacks 0.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra that the model does not have"),
        (lambda state: state.update({"0.bias": torch.zeros(5)}), r"0.bias of shape \(5,\)"),
        (lambda state: state.update({"0.bias": torch.zeros(4, dtype=torch.int8)}), "torch.int8"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_whole(tmp_path, change, said):
    module = small()
    before = module[0].weight.clone()
    state = {name: tensor + 1 for name, tensor in module.state_dict().items()}
    change(state)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(module, tmp_path / "a.pth")
    assert torch.equal(module[0].weight, before)
