"""Backbones by name: what is built, from which randomness, and what is refused."""

import subprocess
import sys

import pytest
import torch

from rayfs.backbones import (
    BACKBONES,
    Conv4,
    Conv4Flat,
    ResNet12,
    WideResNet,
    create_backbone,
    n_features,
    n_parameters,
    resolve_backbone,
)
from rayfs.backbones.regularisation import DropBlock
from rayfs.errors import InputError
from rayfs.randomness import torch_generator

OWN = ["conv4", "conv4-32", "conv4-flat", "conv4-32-flat", "resnet12", "seresnet12", "resnet20", "wrn-10-1"]
"""One name of each kind that is written here; those of torchvision and timm have tests of their own."""


def make(name: str, channels: int = 3, size: int = 32, seed: int = 0) -> torch.nn.Module:
    return create_backbone(name, channels, size, torch_generator(seed, "weights"))


@pytest.mark.parametrize(
    ("name", "kind", "parameters", "features_32", "features_84"),
    [
        ("conv4", Conv4, 113_088, 64, 64),
        ("conv4-32", Conv4, 28_896, 32, 32),
        ("conv4-flat", Conv4Flat, 113_088, 256, 1600),
        ("conv4-32-flat", Conv4Flat, 28_896, 128, 800),
        ("resnet12", ResNet12, 12_424_320, 640, 640),
        ("seresnet12", ResNet12, 12_696_648, 640, 640),
        ("wrn-16-2", WideResNet, 690_384, 128, 128),
    ],
)
def test_names_stand_for_these_networks(name, kind, parameters, features_32, features_84):
    backbone = make(name)
    assert type(backbone) is kind
    assert (n_parameters(backbone), n_features(backbone)) == (parameters, features_32)
    assert n_features(make(name, size=84)) == features_84


@pytest.mark.parametrize("name", ["conv4", "resnet12"])
def test_the_stream_of_initial_weights_is_the_convolutions_in_order_and_nothing_else(name):
    state, generator = make(name, seed=3).state_dict(), torch_generator(3, "weights")
    convolutions = {key: tensor for key, tensor in state.items() if tensor.ndim == 4}
    assert len(convolutions) == {"conv4": 4, "resnet12": 16}[name]
    for key, found in convolutions.items():
        expected = torch.nn.init.kaiming_normal_(torch.empty_like(found), mode="fan_out", generator=generator)
        assert torch.equal(found, expected), key


@pytest.mark.parametrize(("image_size", "block_size"), [(28, 2), (32, 2), (84, 5)])
@pytest.mark.parametrize("name", ["resnet12", "seresnet12"])
def test_resnet12_gets_the_block_size_of_its_images(name, image_size, block_size):
    backbone = make(name, size=image_size)
    assert {m.block_size for m in backbone.modules() if isinstance(m, DropBlock)} == {block_size}


@pytest.mark.parametrize("name", OWN)
def test_every_backbone_works_on_its_smallest_image_with_one_channel(name):
    size = resolve_backbone(name).min_image_size
    backbone = make(name, 1, size).eval()
    assert backbone(torch.ones(2, 1, size, size)).shape == (2, backbone.n_features)


@pytest.mark.parametrize("name", OWN)
def test_weights_come_from_the_given_generator_alone(name):
    before = torch.get_rng_state()
    first, again = make(name, seed=7).state_dict(), make(name, seed=7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_resolving_a_name_imports_neither_torchvision_nor_timm():
    code = (
        "import sys; from rayfs.backbones import resolve_backbone as r; r('resnet50'); r('timm:x'); r('mobilenet-0.5');"
        "assert not {'torchvision', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("resnet34", 3, 84),
            r"unknown backbone 'resnet34'; choose one of: conv4, conv4-32, .*, wrn-DEPTH-WIDTH \(for",
        ),
        (("wrn-28", 3, 84), r"unknown backbone 'wrn-28'; .* \(for example wrn-28-10\), mobilenet-WIDTH"),
        (("wrn-28-10-2", 3, 84), "unknown backbone 'wrn-28-10-2'"),
        (("wrn-28-0", 3, 84), "unknown backbone 'wrn-28-0'"),
        (("mobilenet", 3, 84), "unknown backbone 'mobilenet'"),
        (("mobilenet-x", 3, 84), "unknown backbone 'mobilenet-x'"),
        (("timm:", 3, 84), "unknown backbone 'timm:'"),
        (("wrn-27-2", 3, 84), "'wrn-27-2' has a depth of 27"),
        (("mobilenet-0.0", 3, 84), "'mobilenet-0' has no filters"),
        (("resnet12", 3, 15), "'resnet12' needs images of at least 16 x 16 pixels, got 15 x 15"),
        (("conv4", 3, 7), "'conv4' needs images of at least 8 x 8 pixels, got 7 x 7"),
        (("conv4-flat", 3, 15), "'conv4-flat' needs images of at least 16 x 16 pixels, got 15 x 15"),
        (("wrn-16-2", 3, 2), r"'wrn-16-2' needs images of at least 3 x 3 pixels, got 2 x 2"),
        (("resnet50", 3, 16), r"'resnet50' needs images of at least 17 x 17 .*\(conv4: 8, conv4-32: 8, "),
        (("mobilenet-1.0", 3, 16), "'mobilenet-1.0' needs images of at least 17 x 17 pixels, got 16 x 16"),
        (("conv4", 0, 28), "at least 1 channel, got 0"),
        (("timm:resnet18", 0, 28), "'timm:resnet18' needs images with at least 1 channel, got 0"),
    ],
)
def test_wrong_requests_are_refused_with_numbers(arguments, message):
    with pytest.raises(InputError, match=message):
        create_backbone(*arguments, torch_generator(0, "weights"))


def test_a_least_image_size_is_stated_for_every_exact_name():
    assert {name: spec.min_image_size for name, spec in BACKBONES.items()} == {
        **{"conv4": 8, "conv4-32": 8, "conv4-flat": 16, "conv4-32-flat": 16, "resnet12": 16, "seresnet12": 16},
        **dict.fromkeys(("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"), 3),
        **dict.fromkeys(("resnet18", "resnet50", "resnet101", "resnet152", "resnext50"), 17),
    }
