"""Conv-4, the small backbone of the few-shot literature, as RFS defines it.

Shapes: N images, C channels, H x W pixels, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rayfs.backbones.convolution import kaiming_conv

CHUNK = 32
"""Images whose maps are made and pooled at a time: 4 MB of 32-pixel maps of 64 channels in bf16."""


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
    if pool:  # before the ReLU: the same values and gradients, on a quarter of the pixels
        return PooledBlock(*layers, nn.MaxPool2d(2), nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


class PooledBlock(nn.Sequential):
    """Convolution, batch norm, max-pool 2, ReLU.

    Where the convolution's maps need no gradients (it is frozen, as the first one is when Label Hallucination
    finetunes, or nothing is trained), the pool comes first and the others see a quarter of the pixels: batch norm is
    monotone in each channel, so that values and gradients stay the same to rounding. On CPUs only, a few images at a
    time, so that the large maps never leave the cache.
    """

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return maps (N, width, H // 2, W // 2)."""
        convolution, norm, _, relu = self
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        trained = images_NCHW.requires_grad or any(p.requires_grad for p in convolution.parameters())
        if (trained and torch.is_grad_enabled()) or images_NCHW.device.type != "cpu" or torch.compiler.is_compiling():
            # Compiled code misses what the kernel of the moments writes.
            maps: Tensor = super().forward(images_NCHW)  # type: ignore[no-untyped-call]
            return maps
        with torch.no_grad():
            pooled, mean_C, variance_C = _pooled_maps(images_NCHW, convolution, norm)
        normed = F.batch_norm(pooled, mean_C, variance_C, norm.weight, norm.bias, training=False, eps=norm.eps)
        activated: Tensor = relu(normed)
        return activated


def _pooled_maps(images_NCHW: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pooled maps (N, C, H // 2, W // 2) of `convolution`, and mean and variance (C,) to normalise them by.

    Of each window the pixel that is largest after `norm`. In training the moments are those of the batch, before the
    pool, and the running ones of `norm` follow them as in `nn.BatchNorm2d`.
    """
    assert convolution.bias is not None and norm.running_mean is not None and norm.running_var is not None
    # A channel that norm turns over is turned over before, so that the largest pixel is the right one there, too.
    sign_C = torch.where(norm.weight < 0, -1.0, 1.0).to(convolution.weight.dtype)
    weight, bias = convolution.weight * sign_C[:, None, None, None], convolution.bias * sign_C
    pooled, moments = [], []
    for part in images_NCHW.split(CHUNK):
        maps = F.conv2d(part, weight, bias, padding=convolution.padding)
        if norm.training:
            moments.append(_moments(maps, norm.running_mean))
        pooled.append(_largest_of_windows(maps))
    maps = torch.cat(pooled) * sign_C.to(pooled[0].dtype)[:, None, None]
    if not norm.training:
        return maps, norm.running_mean, norm.running_var
    n_P, mean_PC, variance_PC = (torch.stack(values) for values in zip(*moments, strict=True))
    share_P1 = (n_P / n_P.sum())[:, None]
    mean_C = (share_P1 * mean_PC).sum(0)
    variance_C = (share_P1 * (variance_PC + (mean_PC - mean_C) ** 2)).sum(0)
    mean_C *= sign_C
    if norm.track_running_stats:
        assert norm.momentum is not None and norm.num_batches_tracked is not None
        norm.running_mean.lerp_(mean_C, norm.momentum)
        norm.running_var.lerp_(variance_C / (1 - 1 / n_P.sum()), norm.momentum)
        norm.num_batches_tracked += 1
    return maps, mean_C, variance_C


def _moments(maps_NCHW: Tensor, like_C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the number of pixels (0-d), their mean (C,) and biased variance (C,), in the precision of `like_C`."""
    n = torch.tensor(maps_NCHW.numel() / maps_NCHW.shape[1], dtype=like_C.dtype)
    mean_C, unbiased_C = torch.zeros_like(like_C), torch.zeros_like(like_C)
    torch.ops.aten.batch_norm_update_stats(maps_NCHW, mean_C, unbiased_C, 1.0)  # the kernel of nn.BatchNorm2d
    return n, mean_C, unbiased_C * (1 - 1 / n)


def _largest_of_windows(maps_NCHW: Tensor) -> Tensor:
    """Return max-pool 2 (N, C, H // 2, W // 2); three times as fast as PyTorch's, which looks for the places, too."""
    height, width = (2 * (side // 2) for side in maps_NCHW.shape[2:])
    maps = maps_NCHW[:, :, :height, :width]
    rows = torch.maximum(maps[:, :, ::2], maps[:, :, 1::2])
    return torch.maximum(rows[:, :, :, ::2], rows[:, :, :, 1::2])
