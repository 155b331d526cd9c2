"""Models of timm by name: features, checkpoints, the source of their weights, and what is refused."""

import sys

import pytest
import timm
import torch

from rayfs.backbones import create_backbone, load_checkpoint, n_parameters, read_heads, save_checkpoint
from rayfs.errors import InputError
from rayfs.randomness import torch_generator

SMALL = ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"]
"""timm's own models for tests: a few hundred thousand parameters."""


def make(name: str, channels: int = 3, size: int = 32, seed: int = 0) -> torch.nn.Module:
    return create_backbone(f"timm:{name}", channels, size, torch_generator(seed, "weights"))


def images(size: int = 32, n: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=torch_generator(0, "images"))


def published(name: str, **options) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        return timm.create_model(name, pretrained=False, num_classes=7, **options).eval()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, 48)])
def test_every_kind_gives_one_vector_an_image_in_either_layout(name, channels, size):
    backbone = make(name, channels, size).eval()
    batch = images(size, channels=channels)
    expected = backbone(batch)
    assert expected.shape == (2, backbone.n_features)
    backbone = backbone.to(memory_format=torch.channels_last)
    found = backbone(batch.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_parameters_of_a_known_model():
    backbone = make("resnet18")
    assert (n_parameters(backbone), backbone.n_features) == (11_176_512, 512)
    assert backbone.training


def test_features_are_measured_where_a_layer_follows_the_pool():
    assert make("mobilenetv3_small_050").n_features == 1024  # timm's num_features says 288


def test_vision_transformer_is_built_for_the_size_of_the_images():
    assert make("test_vit", size=48).patch_embed.grid_size == (3, 3)


@pytest.mark.parametrize(
    ("name", "options", "head"),
    [
        ("test_resnet", {}, "fc"),
        ("test_vit", {"img_size": 32}, "head"),
        ("test_convnext", {}, "head.fc"),
        ("test_efficientnet", {}, "classifier"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_checkpoint_loads_and_gives_the_features_before_the_head(tmp_path, name, options, head, prefix):
    model = published(name, **options)
    torch.save({prefix + key: tensor for key, tensor in model.state_dict().items()}, tmp_path / "a.pth")
    backbone = make(name).eval()
    report = load_checkpoint(tmp_path / "a.pth", backbone)
    assert report.ignored == (f"{prefix}{head}.weight", f"{prefix}{head}.bias")
    heads = read_heads(tmp_path / "a.pth", backbone)
    assert list(heads) == [f"{head}.weight", f"{head}.bias"]
    logits = torch.nn.functional.linear(backbone(images()), heads[f"{head}.weight"], heads[f"{head}.bias"])
    torch.testing.assert_close(logits, model(images()))


def test_tensors_of_the_backbone_under_the_name_of_a_head_are_its_own(tmp_path):
    saved, loaded = make("test_convnext", seed=1), make("test_convnext", seed=2)
    own = [name for name in saved.state_dict() if name.startswith("head.")]
    assert own == ["head.norm.weight", "head.norm.bias"]
    saved.head.norm.weight.data.fill_(3)
    save_checkpoint(tmp_path / "a.safetensors", saved, {}, heads={"classifier.weight": torch.ones(5, 4)})
    assert load_checkpoint(tmp_path / "a.safetensors", loaded).ignored == ("classifier.weight",)
    assert (loaded.head.norm.weight == 3).all()
    assert list(read_heads(tmp_path / "a.safetensors", loaded)) == ["classifier.weight"]
    with pytest.raises(ValueError, match=r"'head.norm.weight' has the name of a tensor of the backbone"):
        save_checkpoint(tmp_path / "b.safetensors", saved, {}, heads={"head.norm.weight": torch.ones(1)})


@pytest.mark.parametrize("name", SMALL)
def test_weights_depend_on_the_generator_alone_and_the_global_state_stays(name):
    before = torch.get_rng_state()
    first = make(name, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.rand(1)  # moves the global stream, which must not matter
        again, other = make(name, seed=1).state_dict(), make(name, seed=2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["ghostnet_050", "swin_tiny_patch4_window7_224"])
def test_training_draws_nothing_from_the_global_state(name):
    backbone = make(name).train()
    before = torch.get_rng_state()
    with torch.no_grad():
        backbone(images())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnet1888", 32, r"'timm:resnet1888' is not a model of timm [\d.]+; did you mean: resnet18, "),
        ("hf-hub:timm/resnet18", 32, r"is not a model of timm [\d.]+; timm.list_models\(\) lists its names"),
        ("test_vit", 8, r"cannot build backbone 'timm:test_vit' for 8 x 8 images with 3 channel\(s\) \(\w+: "),
        ("resnet18.tag", 32, r"\(RuntimeError: Invalid pretrained tag \(tag\) for resnet18"),
    ],
)
def test_models_that_cannot_be_built_are_refused_with_the_reason(name, size, message):
    before = torch.get_rng_state()
    with pytest.raises(InputError, match=message):
        make(name, size=size)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_missing_timm_is_said_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"'timm:resnet18' needs timm, .* run: pip install 'rayfs\[timm\]'"):
        make("resnet18")
