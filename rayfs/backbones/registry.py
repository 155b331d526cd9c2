"""Backbones by name, as `--backbone` takes them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.resnet12 import ResNet12, dropblock_size_for
from rayfs.errors import InputError


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """How to build one backbone, and for which images."""

    build: Callable[[int, int, torch.Generator], nn.Module]
    """(in_channels, image_size, generator) -> module with `n_features`."""
    min_image_size: int
    """Pixels; a smaller image would be pooled to nothing."""


BACKBONES: dict[str, BackboneSpec] = {
    "conv4": BackboneSpec(
        build=lambda in_channels, image_size, generator: Conv4(in_channels, generator=generator),
        min_image_size=8,
    ),
    "resnet12": BackboneSpec(
        build=lambda in_channels, image_size, generator: ResNet12(
            in_channels, dropblock_size=dropblock_size_for(image_size), generator=generator
        ),
        min_image_size=16,
    ),
}


def create_backbone(name: str, in_channels: int, image_size: int, generator: torch.Generator) -> nn.Module:
    """Return a freshly initialised backbone: (N, in_channels, image_size, image_size) -> (N, n_features).

    Every initial weight comes from `generator` (on the CPU); the global random state is neither read nor advanced.
    `set_generator` then gives the backbone the generator of its dropout, on the device where it trains.

    Raises InputError for an unknown name, for images too small for the backbone, and for less than one channel.
    """
    if name not in BACKBONES:
        raise InputError(f"unknown backbone {name!r}; choose one of: {', '.join(sorted(BACKBONES))}")
    if in_channels < 1:
        raise InputError(f"backbone {name!r} needs images with at least 1 channel, got {in_channels}")
    spec = BACKBONES[name]
    if image_size < spec.min_image_size:
        raise InputError(
            f"backbone {name!r} needs images of at least {spec.min_image_size} x {spec.min_image_size} pixels, got "
            f"{image_size} x {image_size}; enlarge the images or choose another backbone "
            f"({', '.join(f'{other}: {BACKBONES[other].min_image_size}' for other in sorted(BACKBONES))})"
        )
    return spec.build(in_channels, image_size, generator)


def n_features(backbone: nn.Module) -> int:
    """Return D, the length of the feature vectors of `backbone`."""
    value = backbone.n_features
    assert isinstance(value, int), "every backbone has an integer n_features"
    return value


def n_parameters(module: nn.Module) -> int:
    """Return the number of parameters of `module`, frozen ones included, buffers not."""
    return sum(parameter.numel() for parameter in module.parameters())
