"""ResNet-12, the backbone that RFS, SKD, IER and Label Hallucination share, and SEResNet-12 of RFS.

Shapes: N images, C channels, H x W pixels, D features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rayfs.backbones.convolution import kaiming_conv
from rayfs.backbones.regularisation import DropBlock, Dropout
from rayfs.backbones.squeeze_excitation import SqueezeExcitation


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions and a 1x1 shortcut, each with batch norm, summed, then max-pool 2: halves the image.

    LeakyReLU(0.1) follows the first two convolutions and the sum. `regularise` follows the pool. With
    `squeeze_excitation`, the third batch norm's maps are rescaled before the sum.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        regularise: nn.Module,
        generator: torch.Generator,
        squeeze_excitation: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = kaiming_conv(in_channels, width, 3, generator)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = kaiming_conv(width, width, 3, generator)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = kaiming_conv(width, width, 3, generator)
        self.bn3 = nn.BatchNorm2d(width)
        self.se = SqueezeExcitation(width, generator=generator) if squeeze_excitation else None
        self.downsample = nn.Sequential(kaiming_conv(in_channels, width, 1, generator), nn.BatchNorm2d(width))
        self.relu = nn.LeakyReLU(0.1, inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.regularise = regularise

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Return maps (N, width, H // 2, W // 2)."""
        out = self.relu(self.bn1(self.conv1(maps_NCHW)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.se is not None:
            out = self.se(out)
        out = self.relu(out + self.downsample(maps_NCHW))
        pooled: Tensor = self.regularise(self.pool(out))
        return pooled


class ResNet12(nn.Module):
    """Four residual blocks and a global average pool: 12,424,320 parameters and 640 features by default.

    SEResNet-12, with `squeeze_excitation`, has 12,696,648.

    Source: the released code of RFS (Tian et al., "Rethinking few-shot image classification: a good embedding is all
    you need?", ECCV 2020, https://arxiv.org/abs/2003.11539), which SKD, IER and Label Hallucination reuse. Tensor names
    are those of that code, so its checkpoints load directly. Maps: 84 -> 42 -> 21 -> 10 -> 5, 32 -> 16 -> 8 -> 4 -> 2.

    Training mode needs a generator: `set_generator(model, generator)`. Deviations are noted in `regularisation`.

    Arguments:
        in_channels: C of the images.
        widths: filters of the four blocks; the last is the number of features.
        drop_rate: of dropout after blocks 1 and 2 and, at the end of its ramp, of DropBlock after blocks 3 and 4.
        dropblock_size: side of a dropped square; 5 for 84-pixel images, 2 for 32-pixel images (`dropblock_size_for`).
        squeeze_excitation: rescale the maps of each block before its sum, as RFS's SEResNet-12 does.
        generator: source of the initial weights, on the CPU.
    """

    def __init__(
        self,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 160, 320, 640),
        drop_rate: float = 0.1,
        dropblock_size: int = 5,
        squeeze_excitation: bool = False,
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.n_features = fourth

        def layer(n_inputs: int, width: int, regularise: nn.Module) -> nn.Sequential:
            # A sequence of one block, because the released checkpoints name tensors `layer1.0.conv1.weight`.
            return nn.Sequential(ResidualBlock(n_inputs, width, regularise, generator, squeeze_excitation))

        self.layer1 = layer(in_channels, first, Dropout(drop_rate))
        self.layer2 = layer(first, second, Dropout(drop_rate))
        self.layer3 = layer(second, third, DropBlock(drop_rate, dropblock_size))
        self.layer4 = layer(third, fourth, DropBlock(drop_rate, dropblock_size))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return the features (N, D) of float images (N, C, H, W); H and W at least 16."""
        maps = self.layer4(self.layer3(self.layer2(self.layer1(images_NCHW))))
        return F.adaptive_avg_pool2d(maps, 1).flatten(1)


def dropblock_size_for(image_size: int) -> int:
    """Return 5 where the last map (image_size / 16) can hold a 5 x 5 block, so for 84 pixels, and 2 below (32 pixels).

    The released code chooses by benchmark; sizes between its two are ours.
    """
    return 5 if image_size // 16 >= 5 else 2
