"""Dense operations of a finetuning step, 2 for each multiplication with its addition, counted by PyTorch.

Taps that fall into the padding count, as in every such figure; batch norm, activations and pools do not.
"""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rayfs.backbones.regularisation import set_drop_rate
from rayfs.methods.finetuning.loop import trained
from rayfs.methods.label_halluc import LabelHallucSettings


def forward_flops(backbone: nn.Module, n_images: int, shape: tuple[int, int, int]) -> int:
    """Return those of a forward pass over images (C, H, W)."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _on_no_device(backbone)(torch.empty(n_images, *shape, device="meta"))
    return int(counter.get_total_flops())


def step_flops(backbone: nn.Module, n_images: int, shape: tuple[int, int, int], config: LabelHallucSettings) -> int:
    """Return those of a forward and a backward pass in which `config` says what takes gradients."""
    network = trained(nn.Sequential(copy.deepcopy(backbone), nn.Identity()), config)
    body = _on_no_device(network[0])
    with FlopCounterMode(display=False) as counter:
        body(torch.empty(n_images, *shape, device="meta")).sum().backward()
    return int(counter.get_total_flops())


def _on_no_device(backbone: nn.Module) -> nn.Module:
    """Return a copy whose tensors have shapes and no values, without dropout."""
    body = copy.deepcopy(backbone)
    set_drop_rate(body, 0.0)
    return body.to("meta")
