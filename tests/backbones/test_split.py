"""A backbone in two parts."""

import pytest
import torch

from rayfs.backbones import create_backbone
from rayfs.backbones.registry import blocks
from rayfs.backbones.split import split
from rayfs.errors import InputError
from rayfs.randomness import torch_generator

CHAINS = ["conv4", "conv4-32", "conv4-flat", "resnet12", "seresnet12", "wrn-10-1"]


def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch_generator(0, "images"))


def make(name: str) -> torch.nn.Module:
    return create_backbone(name, 3, 32, torch_generator(1, "weights")).eval()


@pytest.mark.parametrize("name", CHAINS)
def test_the_rest_of_the_first_blocks_is_the_backbone_wherever_it_is_split(name):
    backbone = make(name)
    expected = backbone(images())
    for n_blocks in range(len(blocks(backbone)) + 1):
        first, rest = split(backbone, n_blocks)
        assert not first.training or n_blocks == 0
        assert torch.equal(rest(first(images())), expected), n_blocks


def test_both_parts_share_the_tensors_and_the_backbone_stays_whole():
    backbone = make("conv4")
    first, rest = split(backbone, 2)
    owned = {id(parameter) for part in (first, rest) for parameter in part.parameters()}
    assert owned == {id(parameter) for parameter in backbone.parameters()}
    assert len(list(first.parameters())) == 8
    with torch.no_grad():
        backbone.layer3[0].weight.zero_()
    assert torch.equal(rest.layer3[0].weight, backbone.layer3[0].weight)
    assert len(blocks(backbone)) == 4


def test_parts_keep_the_modes_of_their_blocks():
    backbone = make("conv4").train()
    backbone.layer1.eval()
    first, rest = split(backbone, 1)
    assert not first.training
    assert rest.training and rest.layer2.training


@pytest.mark.parametrize("name", ["resnet18", "mobilenet-0.25"])
def test_a_backbone_with_operations_between_its_blocks_is_refused(name):
    with pytest.raises(InputError, match=r"cannot be split .* conv4, resnet12, .* use --frozen-views 0"):
        split(make(name), 1)
