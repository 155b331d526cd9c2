"""The backbones that torchvision builds: ResNet, ResNeXt-50 and MobileNetV2, without their classifiers.

Their tensors keep torchvision's names, so its published ImageNet checkpoints load with `load_checkpoint`.
"""

import torch
import torchvision
from torch import nn

from rayfs.backbones.global_draws import global_draws_from

RESNETS = {
    "resnet18": torchvision.models.resnet18,
    "resnet50": torchvision.models.resnet50,
    "resnet101": torchvision.models.resnet101,
    "resnet152": torchvision.models.resnet152,
    "resnext50": torchvision.models.resnext50_32x4d,
}


def torchvision_resnet(name: str, in_channels: int, generator: torch.Generator) -> nn.Module:
    """Return a ResNet with `n_features`: 512 features for ResNet-18, 2048 for the others.

    Sources: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016,
    https://arxiv.org/abs/1512.03385, and Xie, Girshick, Dollár, Tu, He, "Aggregated residual transformations for deep
    neural networks", CVPR 2017, https://arxiv.org/abs/1611.05431. They are made for 224-pixel images, which end in
    7 x 7 maps; images of up to 32 pixels end in 1 x 1.

    Arguments:
        name: a key of `RESNETS`.
        in_channels: C of the images; where it is not 3, the first convolution is another, and ImageNet's does not fit.
        generator: source of the initial weights, on the CPU.
    """
    with global_draws_from(generator):
        model = RESNETS[name](weights=None)
        if in_channels != 3:
            _set_channels(model.conv1, in_channels)
    model.n_features = model.fc.in_features
    model.fc = nn.Identity()
    without_head: nn.Module = model
    return without_head


def torchvision_mobilenet(width: float, in_channels: int, generator: torch.Generator) -> nn.Module:
    """Return MobileNetV2 with `n_features`: 1280, or 1280 · width where the width is above 1.

    Source: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018,
    https://arxiv.org/abs/1801.04381. Made for 224-pixel images; images of up to 32 pixels end in 1 x 1 maps.

    Arguments:
        width: factor of the filters, rounded to multiples of 8; 1.0 is the paper's network.
        in_channels: C of the images; where it is not 3, the first convolution is another, and ImageNet's does not fit.
        generator: source of the initial weights, on the CPU.
    """
    with global_draws_from(generator):
        model = torchvision.models.mobilenet_v2(weights=None, width_mult=width)
        if in_channels != 3:
            _set_channels(model.features[0][0], in_channels)
    model.n_features = model.last_channel
    model.classifier = nn.Identity()
    without_head: nn.Module = model
    return without_head


def _set_channels(conv: nn.Conv2d, in_channels: int) -> None:
    """Draw the weights of `conv` anew for images with other channels, by the formula that torchvision has for it."""
    weight = torch.empty(conv.out_channels, in_channels, *conv.kernel_size)
    conv.weight = nn.Parameter(nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu"))
    conv.in_channels = in_channels
