"""Backbones as the released codes write them: layer after layer, contiguous, dropout by PyTorch's global randomness.

N images, C channels, H x W maps.
"""

import copy

import torch
from torch import Tensor, nn

from rayfs.backbones.conv4 import PooledBlock
from rayfs.backbones.regularisation import RAMP_FORWARDS, DropBlock, Dropout


def plain_copy(backbone: nn.Module) -> nn.Module:
    """Return a copy with the same tensors by the same names, where no block takes a shortcut."""
    plain = copy.deepcopy(backbone).to(memory_format=torch.contiguous_format)
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, PooledBlock):
                convolution, norm, pool, relu = child
                setattr(module, name, nn.Sequential(convolution, norm, relu, pool).train(child.training))
            elif isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.drop_rate).train(child.training))
            elif isinstance(child, DropBlock):
                setattr(module, name, PlainDropBlock(child.drop_rate, child.block_size).train(child.training))
    return plain


class PlainDropBlock(nn.Module):
    """Zeroes squares of each map in training, found by their corners one by one, at a rate that rises from 0.

    Ghiasi, Lin, Le, "DropBlock", NeurIPS 2018, with the ramp of RFS; `DropBlock` is the engine's.
    """

    def __init__(self, p: float, block_size: int) -> None:
        super().__init__()
        self.p, self.block_size, self.n_forwards = p, block_size, 0

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (N, C, H, W)."""
        if not self.training or self.p == 0:
            return maps
        self.n_forwards += 1
        n, channels, height, width = maps.shape
        size = min(self.block_size, height, width)
        keep = max(1 - self.p / RAMP_FORWARDS * self.n_forwards, 1 - self.p)
        corners = (height - size + 1, width - size + 1)
        rate = (1 - keep) / size**2 * height * width / (corners[0] * corners[1])
        seeds = torch.bernoulli(torch.full((n, channels, *corners), rate, device=maps.device)).nonzero()
        mask = torch.ones_like(maps)
        for row in range(size):
            for column in range(size):
                mask[seeds[:, 0], seeds[:, 1], seeds[:, 2] + row, seeds[:, 3] + column] = 0
        return maps * mask * (mask.numel() / mask.sum())
