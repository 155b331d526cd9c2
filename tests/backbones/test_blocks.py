"""The blocks of every kind of backbone from its input on, and whether it has dropout anywhere."""

import pytest
import torch
from torch import nn

from rayfs.backbones import create_backbone
from rayfs.backbones.registry import blocks
from rayfs.backbones.regularisation import DropBlock, Dropout, has_dropout, set_drop_rate
from rayfs.randomness import torch_generator

BLOCKS = {
    "conv4": ["layer1", "layer2", "layer3", "layer4"],
    "conv4-flat": ["layer1", "layer2", "layer3", "layer4"],
    "resnet12": ["layer1", "layer2", "layer3", "layer4"],
    "wrn-16-1": ["conv1", "block1", "block2", "block3", "bn1"],
    "resnet18": ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"],
    "mobilenet-0.25": [f"features.{i}" for i in range(19)],
}


def make(name: str) -> nn.Module:
    return create_backbone(name, 1, 32, torch_generator(0, "weights"))


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_these_modules_in_this_order(name):
    backbone = make(name)
    names = {module: name for name, module in backbone.named_modules()}
    assert [names[block] for block in blocks(backbone)] == BLOCKS[name]


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_hold_every_parameter_once_and_the_first_one_the_first_convolution(name):
    backbone = make(name)
    held = [id(parameter) for block in blocks(backbone) for parameter in block.parameters()]
    assert held == [id(parameter) for parameter in backbone.parameters()]
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    assert first in list(blocks(backbone)[0].modules())


@pytest.mark.parametrize("name", ["conv4", "wrn-16-1", "resnet18"])
def test_blocks_come_in_the_order_of_the_forward_pass(name):
    backbone, called = make(name).eval(), []
    for number, block in enumerate(blocks(backbone)):
        block.register_forward_hook(lambda *_, number=number: called.append(number))
    backbone(torch.ones(1, 1, 32, 32))
    assert called == list(range(len(blocks(backbone))))


def test_wrappers_around_one_module_count_for_nothing_and_parts_without_parameters_neither():
    inner = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    assert blocks(nn.Sequential(nn.Sequential(nn.Flatten(), inner), nn.ReLU())) == [inner[0], inner[2]]
    alone = nn.Linear(1, 1)
    assert blocks(nn.Sequential(nn.Sequential(alone))) == [alone]
    assert blocks(nn.Sequential(nn.ReLU())) == blocks(alone) == []


@pytest.mark.parametrize(("name", "expected"), [("conv4", False), ("resnet12", True), ("seresnet12", True)])
def test_backbones_with_dropout_are_known(name, expected):
    assert has_dropout(make(name)) is expected


def test_dropout_anywhere_and_at_whatever_rate_is_found():
    assert has_dropout(nn.Sequential(nn.Sequential(Dropout(0.1))))
    assert has_dropout(DropBlock(0.0, 2))
    backbone = make("resnet12")
    set_drop_rate(backbone, 0.0)
    assert has_dropout(backbone)
    assert not has_dropout(nn.Sequential(nn.Linear(1, 1)))
