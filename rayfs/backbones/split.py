"""A backbone in two parts: the blocks that stay frozen, whose outputs can be kept, and the rest.

N images, C channels, H x W pixels, D features.
"""

import copy

from torch import nn

from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.conv4_flat import Conv4Flat
from rayfs.backbones.registry import blocks
from rayfs.backbones.resnet12 import ResNet12
from rayfs.backbones.wide_resnet import WideResNet
from rayfs.errors import InputError

CHAINS = (Conv4, Conv4Flat, ResNet12, WideResNet)
"""Backbones whose forward pass starts with its blocks, one after the other, and nothing between them."""


def split(backbone: nn.Module, n_blocks: int) -> tuple[nn.Module, nn.Module]:
    """Return the first `n_blocks` of `backbone` and the rest of it: `rest(first(images)) == backbone(images)`.

    Both share the tensors of `backbone` and the modes (training or not) of its blocks.

    Returns:
        (N, C, H, W) -> activations of the blocks, and those -> (N, D).

    Raises:
        InputError: this kind of backbone cannot be split.
    """
    if not isinstance(backbone, CHAINS):
        raise InputError(
            f"{type(backbone).__name__} cannot be split behind its first {n_blocks} blocks, because other operations "
            "lie between them; conv4, resnet12, seresnet12 and wrn-DEPTH-WIDTH can: use --frozen-views 0"
        )
    first = blocks(backbone)[:n_blocks]
    rest = copy.copy(backbone)
    rest._modules = {name: nn.Identity() if child in first else child for name, child in backbone._modules.items()}
    activations = nn.Sequential(*first)
    activations.training = any(block.training for block in first)
    return activations, rest
