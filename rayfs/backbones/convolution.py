"""The one way the backbones written here make a convolution: from an explicit generator, never from the global one."""

import torch
from torch import nn

from rayfs.backbones.uninitialised import uninitialised


def kaiming_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    generator: torch.Generator,
    bias: bool = False,
    stride: int = 1,
) -> nn.Conv2d:
    """Return a convolution padded so that stride 1 keeps the image size, weights ~ N(0, 2 / fan_out), bias 0.

    The gain is √2: the released code of RFS asks for Kaiming "leaky_relu" without passing the slope 0.1, which is the
    gain of a plain ReLU.

    Arguments:
        generator: on the CPU, so that the weights are the same whatever device the model then moves to.
    """
    conv = uninitialised(nn.Conv2d, in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=bias)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="leaky_relu", a=0.0, generator=generator)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
