"""Squeeze-and-excitation: rescale each channel by a number computed from all channels of the image.

Shapes: N images, C channels, H x W map.
"""

import torch
from torch import Tensor, nn

from rayfs.backbones.heads import linear

REDUCTION = 4
"""C / width of the hidden layer (released code of RFS; 16 in the paper)."""


class SqueezeExcitation(nn.Module):
    """maps · sigmoid(W2 relu(W1 z + b1) + b2), with z the mean of each channel over the map.

    Source: Hu, Shen, Sun, "Squeeze-and-excitation networks", CVPR 2018, https://arxiv.org/abs/1709.01507, equations 2
    to 4, with biases as in the released code of RFS. Tensor names (`fc.0.weight`, `fc.2.weight`, ...) are those of that
    code, where too the linear layers start with the usual values of nn.Linear.

    Arguments:
        width: C; at least 4.
        generator: source of the initial weights, on the CPU.
    """

    def __init__(self, width: int, *, generator: torch.Generator) -> None:
        super().__init__()
        hidden = width // REDUCTION
        self.fc = nn.Sequential(
            linear(width, hidden, generator),
            nn.ReLU(inplace=True),
            linear(hidden, width, generator),
            nn.Sigmoid(),
        )

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Return the rescaled maps."""
        scale_NC: Tensor = self.fc(maps_NCHW.mean(dim=(2, 3)))
        return maps_NCHW * scale_NC[:, :, None, None]
