"""Conv-4, the small backbone of the few-shot literature, as RFS defines it.

Shapes: N images, C channels, H x W pixels, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rayfs.backbones.convolution import kaiming_conv


class Conv4(nn.Module):
    """Four blocks of 3x3 convolution, batch norm and ReLU, max-pool 2 after the first three, global average pool.

    Source: ConvNet-4 of RFS (Tian, Wang, Krishnan, Tenenbaum, Isola, "Rethinking few-shot image classification: a good
    embedding is all you need?", ECCV 2020, https://arxiv.org/abs/2003.11539): 64 filters in each block, the last block
    is not pooled, 64 features. Many other papers pool four times and flatten instead (`Conv4Flat`); their figures are
    not comparable. Tensor names (`layer1.0.weight`, `layer1.1.weight`, ...) are those of RFS, so its checkpoints load
    directly.

    The convolutions keep RFS's bias for that reason, although batch norm cancels it in training.
    Deviation: the bias starts at 0 instead of uniform noise; in training the outputs are the same for any value.

    Arguments:
        in_channels: C of the images.
        width: filters of each block, and the number of features.
        generator: source of the initial weights, on the CPU.
    """

    def __init__(self, in_channels: int = 3, width: int = 64, *, generator: torch.Generator) -> None:
        super().__init__()
        self.n_features = width
        self.layer1 = conv4_block(in_channels, width, generator, pool=True)
        self.layer2 = conv4_block(width, width, generator, pool=True)
        self.layer3 = conv4_block(width, width, generator, pool=True)
        self.layer4 = conv4_block(width, width, generator, pool=False)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return the features (N, D) of float images (N, C, H, W); H and W at least 8."""
        maps = self.layer4(self.layer3(self.layer2(self.layer1(images_NCHW))))
        return F.adaptive_avg_pool2d(maps, 1).flatten(1)


def conv4_block(in_channels: int, width: int, generator: torch.Generator, pool: bool) -> nn.Sequential:
    """Return convolution, batch norm, max-pool 2 where `pool`, and ReLU: the block of both kinds of Conv-4."""
    layers = [kaiming_conv(in_channels, width, 3, generator, bias=True), nn.BatchNorm2d(width)]
    if pool:
        layers.append(nn.MaxPool2d(2))  # before the ReLU: the same values and gradients, on a quarter of the pixels
    return nn.Sequential(*layers, nn.ReLU(inplace=True))
