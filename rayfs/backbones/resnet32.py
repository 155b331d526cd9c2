"""ResNet for 32-pixel images: ResNet-32, the backbone of most work on long-tailed CIFAR, and ResNet-20, 44, 56, 110.

Shapes: N images, C channels, H x W pixels, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rayfs.backbones.convolution import kaiming_conv

DEPTHS = (20, 32, 44, 56, 110)
"""6 n + 2 layers, n blocks a stage: the sizes of He et al., section 4.2."""

N_FEATURES = 64


class BasicBlock(nn.Module):
    """3x3 convolution, batch norm, ReLU, 3x3 convolution, batch norm, plus the input, ReLU.

    The shortcut has no parameters ("option A"): where the map is halved, it takes every second pixel and adds channels
    of zeros, half before and half behind.
    """

    def __init__(self, in_channels: int, width: int, stride: int, generator: torch.Generator) -> None:
        super().__init__()
        self.conv1 = kaiming_conv(in_channels, width, 3, generator, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = kaiming_conv(width, width, 3, generator)
        self.bn2 = nn.BatchNorm2d(width)
        self._stride, self._padding = stride, (width - in_channels) // 2

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Return maps (N, width, H / stride, W / stride), rounded up."""
        out = F.relu(self.bn1(self.conv1(maps_NCHW)))
        out = self.bn2(self.conv2(out))
        shortcut = maps_NCHW
        if self._stride > 1 or self._padding:
            shortcut = F.pad(maps_NCHW[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0) + (self._padding,) * 2)
        return F.relu(out + shortcut)


class CifarResNet(nn.Module):
    """A convolution of 16 filters, three stages of (depth - 2) / 6 blocks of 16, 32, 64 filters, global average pool.

    Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2,
    https://arxiv.org/abs/1512.03385; 463,504 parameters and 64 features at depth 32. Maps: 32 -> 32 -> 16 -> 8. Tensor
    names (`layer1.0.conv1.weight`, ...) are those of the released code of LDAM (Cao et al., NeurIPS 2019), so that its
    checkpoints load directly.

    Deviation: initial weights are scaled by the outputs of a layer (fan out) as everywhere in this package, where
    LDAM's code scales by its inputs; the two differ at two convolutions and the first one.

    Arguments:
        depth: layers, one of `DEPTHS`.
        in_channels: C of the images.
        generator: source of the initial weights, on the CPU.
    """

    def __init__(self, depth: int, in_channels: int = 3, *, generator: torch.Generator) -> None:
        super().__init__()
        n_blocks = (depth - 2) // 6
        self.n_features = N_FEATURES
        self.conv1 = kaiming_conv(in_channels, 16, 3, generator)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(n_blocks, 16, 16, 1, generator)
        self.layer2 = _stage(n_blocks, 16, 32, 2, generator)
        self.layer3 = _stage(n_blocks, 32, 64, 2, generator)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return the features (N, D) of float images (N, C, H, W)."""
        maps = F.relu(self.bn1(self.conv1(images_NCHW)))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        return F.adaptive_avg_pool2d(maps, 1).flatten(1)


def _stage(n_blocks: int, in_channels: int, width: int, stride: int, generator: torch.Generator) -> nn.Sequential:
    first = BasicBlock(in_channels, width, stride, generator)
    return nn.Sequential(first, *(BasicBlock(width, width, 1, generator) for _ in range(n_blocks - 1)))
