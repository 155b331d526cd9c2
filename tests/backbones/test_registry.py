"""Backbones by name: what is built, from which randomness, and what is refused."""

import pytest
import torch

from rayfs.backbones import BACKBONES, Conv4, ResNet12, create_backbone
from rayfs.backbones.regularisation import DropBlock
from rayfs.errors import InputError
from rayfs.randomness import torch_generator


def test_names():
    assert sorted(BACKBONES) == ["conv4", "resnet12"]
    assert isinstance(create_backbone("conv4", 3, 32, torch_generator(0, "weights")), Conv4)
    assert isinstance(create_backbone("resnet12", 3, 32, torch_generator(0, "weights")), ResNet12)


@pytest.mark.parametrize(("image_size", "block_size"), [(28, 2), (32, 2), (84, 5)])
def test_resnet12_gets_the_block_size_of_its_images(image_size, block_size):
    backbone = create_backbone("resnet12", 3, image_size, torch_generator(0, "weights"))
    assert {m.block_size for m in backbone.modules() if isinstance(m, DropBlock)} == {block_size}


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_works_on_its_smallest_image_with_one_channel(name):
    size = BACKBONES[name].min_image_size
    backbone = create_backbone(name, 1, size, torch_generator(0, "weights")).eval()
    assert backbone(torch.ones(2, 1, size, size)).shape == (2, backbone.n_features)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_weights_come_from_the_given_generator_alone(name):
    before = torch.get_rng_state()
    first = create_backbone(name, 3, 32, torch_generator(7, "weights")).state_dict()
    again = create_backbone(name, 3, 32, torch_generator(7, "weights")).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet50", 3, 84), "unknown backbone 'resnet50'; choose one of: conv4, resnet12"),
        (("resnet12", 3, 15), "'resnet12' needs images of at least 16 x 16 pixels, got 15 x 15"),
        (("conv4", 3, 7), "'conv4' needs images of at least 8 x 8 pixels, got 7 x 7"),
        (("conv4", 0, 28), "at least 1 channel, got 0"),
    ],
)
def test_wrong_requests_are_refused_with_numbers(arguments, message):
    with pytest.raises(InputError, match=message):
        create_backbone(*arguments, torch_generator(0, "weights"))
