"""Wide ResNet for 32-pixel images: WRN-28-10, WRN-40-2, WRN-16-1 and their like.

Shapes: N images, C channels, H x W pixels, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rayfs.backbones.convolution import kaiming_conv
from rayfs.backbones.regularisation import Dropout
from rayfs.errors import InputError


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU and 3x3 convolution, twice, with dropout before the second convolution, plus the input.

    Where the number of channels changes, the shortcut is a 1x1 convolution of the input after its batch norm and ReLU.
    """

    def __init__(self, in_channels: int, width: int, stride: int, drop_rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = kaiming_conv(in_channels, width, 3, generator, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.dropout = Dropout(drop_rate)
        self.conv2 = kaiming_conv(width, width, 3, generator)
        changes = in_channels != width
        self.convShortcut = kaiming_conv(in_channels, width, 1, generator, stride=stride) if changes else None

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Return maps (N, width, H / stride, W / stride), rounded up."""
        activated = F.relu(self.bn1(maps_NCHW))
        out: Tensor = F.relu(self.bn2(self.conv1(activated)))
        out = self.conv2(self.dropout(out))
        out = out + (maps_NCHW if self.convShortcut is None else self.convShortcut(activated))
        return out


class Stage(nn.Module):
    """Blocks of one width; the first halves the map where `stride` is 2."""

    def __init__(
        self, n_blocks: int, in_channels: int, width: int, stride: int, drop_rate: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        first = PreActivationBlock(in_channels, width, stride, drop_rate, generator)
        others = (PreActivationBlock(width, width, 1, drop_rate, generator) for _ in range(n_blocks - 1))
        self.layer = nn.Sequential(first, *others)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Return maps (N, width, H / stride, W / stride), rounded up."""
        maps: Tensor = self.layer(maps_NCHW)
        return maps


class WideResNet(nn.Module):
    """A convolution of 16 filters, three stages of (depth - 4) / 6 blocks, batch norm, ReLU, global average pool.

    Source: Zagoruyko, Komodakis, "Wide residual networks", BMVC 2016, https://arxiv.org/abs/1605.07146. The stages have
    16, 32 and 64 filters times `width`; the last is the number of features: 36,472,784 parameters and 640 features for
    WRN-28-10. Maps: 32 -> 32 -> 16 -> 8. Tensor names (`block1.layer.0.convShortcut.weight`, ...) are those that most
    PyTorch code of distillation on CIFAR has, so its checkpoints load directly.

    Checkpoints of the Wide ResNet inside the released RFS code do not fit: there the convolutions have biases, the
    second convolution of a block has the stride, and the names are others.

    Training mode with a drop rate above 0 needs a generator: `set_generator(model, generator)`.

    Arguments:
        depth: layers; 10, 16, 22, 28, ... (6 n + 4).
        width: factor of the filters.
        in_channels: C of the images.
        drop_rate: of the dropout inside the blocks.
        generator: source of the initial weights, on the CPU.

    Raises InputError for another depth, or a width below 1.
    """

    def __init__(
        self, depth: int, width: int, in_channels: int = 3, drop_rate: float = 0.0, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        check_wide_resnet(depth, width)
        n_blocks = (depth - 4) // 6
        self.n_features = 64 * width
        self.conv1 = kaiming_conv(in_channels, 16, 3, generator)
        self.block1 = Stage(n_blocks, 16, 16 * width, 1, drop_rate, generator)
        self.block2 = Stage(n_blocks, 16 * width, 32 * width, 2, drop_rate, generator)
        self.block3 = Stage(n_blocks, 32 * width, 64 * width, 2, drop_rate, generator)
        self.bn1 = nn.BatchNorm2d(64 * width)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return the features (N, D) of float images (N, C, H, W)."""
        maps = self.block3(self.block2(self.block1(self.conv1(images_NCHW))))
        return F.adaptive_avg_pool2d(F.relu(self.bn1(maps)), 1).flatten(1)


def check_wide_resnet(depth: int, width: int) -> None:
    """Raise InputError where there is no Wide ResNet of this depth and width."""
    if depth < 10 or depth % 6 != 4:
        below = max(10, (depth - 4) // 6 * 6 + 4)
        near = f"{below}" if depth < 10 else f"{below} or {below + 6}"
        raise InputError(
            f"backbone 'wrn-{depth}-{width}' has a depth of {depth}, but three stages of whole blocks need 6 n + 4 "
            f"layers (10, 16, 22, 28, ...); take {near}"
        )
    if width < 1:
        raise InputError(f"backbone 'wrn-{depth}-{width}' has a width of {width}; take 1 or more")
