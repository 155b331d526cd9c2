"""Conv-4 as MAML uses it: four pools, and the last map flattened.

Shapes: N images, C channels, H x W pixels, D features.
"""

import torch
from torch import Tensor, nn

from rayfs.backbones.conv4 import conv4_block


class Conv4Flat(nn.Module):
    """Four blocks of 3x3 convolution, batch norm, ReLU and max-pool 2; the features are the last map, flattened.

    Source: Finn, Abbeel, Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017,
    https://arxiv.org/abs/1703.03400, with 32 filters on 84-pixel images: 84 -> 42 -> 21 -> 10 -> 5, so 800 features.
    32 pixels leave 2 x 2 maps. Tensor names are those of `Conv4`; the features are in C, H, W order.

    Batch norm keeps running averages here. The released code of MAML has none: it always takes the statistics of the
    batch, at test time as well.
    Deviation: weights start as in `Conv4` (Kaiming), where the released code takes Xavier's formula; batch norm takes
    the scale of the weights out of the outputs.

    Arguments:
        in_channels: C of the images.
        width: filters of each block.
        image_size: H and W of the images, at least 16.
        generator: source of the initial weights, on the CPU.
    """

    def __init__(
        self, in_channels: int = 3, width: int = 32, image_size: int = 84, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.n_features = width * (image_size // 16) ** 2
        self.layer1 = conv4_block(in_channels, width, generator, pool=True)
        self.layer2 = conv4_block(width, width, generator, pool=True)
        self.layer3 = conv4_block(width, width, generator, pool=True)
        self.layer4 = conv4_block(width, width, generator, pool=True)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return the features (N, D) of float images (N, C, H, W)."""
        features_ND: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(images_NCHW)))).flatten(1)
        return features_ND
