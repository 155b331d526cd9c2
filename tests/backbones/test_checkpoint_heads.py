"""Heads in checkpoints: those of the released codes, those saved here, and what is refused."""

import argparse
import json

import pytest
import torch
from torch import nn

from rayfs.backbones import (
    Conv4,
    ResNet12,
    WideResNet,
    load_checkpoint,
    read_heads,
    save_checkpoint,
    state_hash,
)
from rayfs.errors import InputError
from rayfs.randomness import torch_generator

N_CLASSES, N_TRANSFORMS, N_EMBEDDING = 6, 16, 5


def conv4(seed: int = 0) -> Conv4:
    return Conv4(width=4, generator=torch_generator(seed, "weights"))


def resnet12(seed: int = 0) -> ResNet12:
    return ResNet12(widths=(4, 6, 8, 12), generator=torch_generator(seed, "weights"))


def seresnet12(seed: int = 0) -> ResNet12:
    return ResNet12(widths=(4, 8, 8, 12), squeeze_excitation=True, generator=torch_generator(seed, "weights"))


def wrn(seed: int = 0) -> WideResNet:
    return WideResNet(10, 1, generator=torch_generator(seed, "weights"))


def linear(name: str, n_inputs: int, n_outputs: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.rand(n_outputs, n_inputs), f"{name}.bias": torch.rand(n_outputs)}


def mlp(name: str, n_inputs: int, n_outputs: int) -> dict[str, torch.Tensor]:
    """Return the tensors of IER's heads: three linear layers with batch norm and ReLU between them."""
    norms, relu = (nn.BatchNorm1d(n_inputs) for _ in range(2)), nn.ReLU()
    first, second, third = nn.Linear(n_inputs, n_inputs), nn.Linear(n_inputs, n_inputs), nn.Linear(n_inputs, n_outputs)
    layers = nn.Sequential(first, next(norms), relu, second, next(norms), relu, third)
    return {f"{name}.{key}": tensor for key, tensor in layers.state_dict().items()}


def rfs(n_features: int) -> dict[str, torch.Tensor]:
    return linear("classifier", n_features, N_CLASSES)


def skd(n_features: int) -> dict[str, torch.Tensor]:
    # The rotation head reads the class logits.
    return linear("classifier", n_features, N_CLASSES) | linear("rot_classifier", N_CLASSES, 4)


def ier(n_features: int) -> dict[str, torch.Tensor]:
    heads = linear("classifier", n_features, N_CLASSES)
    return heads | mlp("eq_head", n_features, N_TRANSFORMS) | mlp("inv_head", n_features, N_EMBEDDING)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# The layouts of the released codes


@pytest.mark.parametrize("make", [conv4, resnet12, seresnet12])
@pytest.mark.parametrize(("heads_of", "n_heads"), [(rfs, 2), (skd, 4), (ier, 34)], ids=["rfs", "skd", "ier"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_of_the_released_codes_load_and_their_heads_are_reported_and_read(
    tmp_path, make, heads_of, n_heads, prefix
):
    saved, loaded = make(1), make(2)
    heads = heads_of(saved.n_features)
    model = {prefix + name: tensor for name, tensor in (saved.state_dict() | heads).items()}
    torch.save({"opt": argparse.Namespace(model=make.__name__, n_ways=5), "model": model}, tmp_path / "last.pth")
    report = load_checkpoint(tmp_path / "last.pth", loaded)
    assert same(loaded.state_dict(), saved.state_dict())
    assert report.n_tensors == len(saved.state_dict())
    assert report.ignored == tuple(prefix + name for name in heads) and len(heads) == n_heads
    assert f"ignored {n_heads} of a classifier head: {prefix}classifier.weight, " in report.describe()
    assert same(read_heads(tmp_path / "last.pth"), heads)
    assert same(read_heads(tmp_path / "last.pth", loaded), heads)


def test_wide_resnet_of_the_usual_code_loads_with_its_head(tmp_path):
    torch.save({"state_dict": wrn(1).state_dict() | linear("fc", 64, 100)}, tmp_path / "a.pth")
    loaded = wrn(2)
    assert load_checkpoint(tmp_path / "a.pth", loaded).ignored == ("fc.weight", "fc.bias")
    assert same(loaded.state_dict(), wrn(1).state_dict())


def test_squeeze_excitation_is_no_head_although_its_layers_are_called_fc(tmp_path):
    torch.save(seresnet12(1).state_dict(), tmp_path / "a.pth")
    assert load_checkpoint(tmp_path / "a.pth", seresnet12(2)).ignored == ()
    assert read_heads(tmp_path / "a.pth") == {}


def test_heads_beside_a_wrapped_backbone_are_read_under_their_names(tmp_path):
    state = {f"encoder.{name}": tensor for name, tensor in conv4(1).state_dict().items()}
    torch.save(state | linear("classifier", 4, 5), tmp_path / "a.pth")
    assert list(read_heads(tmp_path / "a.pth")) == ["classifier.weight", "classifier.bias"]


def test_a_prefix_that_the_backbone_itself_has_stays(tmp_path):
    backbone = nn.Sequential()
    backbone.add_module("encoder", conv4(1))
    torch.save({f"module.{k}": v for k, v in backbone.state_dict().items()} | linear("fc", 4, 5), tmp_path / "a.pth")
    assert load_checkpoint(tmp_path / "a.pth", backbone).ignored == ("fc.weight", "fc.bias")


# Saving


def test_saved_heads_are_read_back_bit_for_bit_and_the_backbone_loads_without_them(tmp_path):
    saved, loaded, heads = resnet12(1), resnet12(2), ier(12)
    save_checkpoint(tmp_path / "a.safetensors", saved, {"objective": "ier"}, heads=heads)
    report = load_checkpoint(tmp_path / "a.safetensors", loaded)
    assert same(loaded.state_dict(), saved.state_dict())
    assert (report.n_tensors, sorted(report.ignored)) == (96, sorted(heads))
    found = read_heads(tmp_path / "a.safetensors")
    assert same(found, heads)
    assert found["eq_head.1.num_batches_tracked"].dtype == torch.int64


def test_sidecar_counts_every_tensor_and_hashes_the_backbone_alone(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", conv4(), {}, heads=skd(4))
    sidecar = json.loads((tmp_path / "a.json").read_text())
    assert sidecar["n_tensors"] == 28 + 4
    assert sidecar["state_hash"] == state_hash(conv4())


def test_no_heads_and_none_give_the_same_file(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", conv4(), {}, heads={})
    save_checkpoint(tmp_path / "b.safetensors", conv4(), {})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert read_heads(tmp_path / "a.safetensors") == {}


def test_heads_on_one_memory_in_any_layout_and_with_gradients_are_saved(tmp_path):
    weight = torch.rand(5, 4, requires_grad=True)
    heads = {"classifier.weight": weight, "fc.weight": weight, "linear.weight": weight.T}
    save_checkpoint(tmp_path / "a.safetensors", conv4(), {}, heads=heads)
    found = read_heads(tmp_path / "a.safetensors")
    assert all(torch.equal(found[name], heads[name]) for name in heads)


# Failures


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layer1.0.weight", "'layer1.0.weight' has the name of a tensor of the backbone; rename the head"),
        ("top.weight", "'top.weight' begins with none of: fc, classifier, head, .*; rename the head"),
    ],
)
def test_heads_that_could_not_be_told_from_the_backbone_write_nothing(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        save_checkpoint(tmp_path / "a.safetensors", conv4(), {}, heads={name: torch.ones(2)})
    assert list(tmp_path.iterdir()) == []


def test_heads_that_are_not_finite_are_refused_and_the_backbone_still_loads(tmp_path):
    heads = rfs(4)
    heads["classifier.bias"][0] = float("inf")
    torch.save(conv4(1).state_dict() | heads, tmp_path / "a.pth")
    load_checkpoint(tmp_path / "a.pth", conv4())
    with pytest.raises(InputError, match=r"a.pth has heads with NaN or infinite values: classifier.bias; take another"):
        read_heads(tmp_path / "a.pth")


def test_a_head_that_is_there_twice_is_refused(tmp_path):
    state = {f"module.{name}": tensor for name, tensor in (conv4(1).state_dict() | rfs(4)).items()}
    torch.save(state | rfs(4), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"holds the head's tensor classifier.weight twice, with and without"):
        read_heads(tmp_path / "a.pth")


def test_heads_are_read_as_safely_as_backbones(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.pth does not exist"):
        read_heads(tmp_path / "nowhere.pth")
    torch.save({"model": conv4()}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"loading that could run code; nothing was run"):
        read_heads(tmp_path / "a.pth")
    save_checkpoint(tmp_path / "a.safetensors", conv4(1), {}, heads=rfs(4))
    save_checkpoint(tmp_path / "b.safetensors", conv4(1), {}, heads=rfs(4))
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "b.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"a.safetensors is not the file that a.json describes"):
        read_heads(tmp_path / "a.safetensors")
