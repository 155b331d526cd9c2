"""Backbones by name, as `--backbone` takes them.

torchvision and timm are imported only when one of theirs is built, so that a command line opens fast.

Each least image size is the smallest where every halving starts from a map of at least 2 x 2 pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.conv4_flat import Conv4Flat
from rayfs.backbones.names import MOBILENET, TIMM, WIDE_RESNET, backbone_names
from rayfs.backbones.resnet12 import ResNet12, dropblock_size_for
from rayfs.backbones.resnet32 import DEPTHS, CifarResNet
from rayfs.backbones.wide_resnet import WideResNet, check_wide_resnet
from rayfs.errors import InputError


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """How to build one backbone, and for which images."""

    build: Callable[[int, int, torch.Generator], nn.Module]
    """(in_channels, image_size, generator) -> module with `n_features`."""
    min_image_size: int
    """Pixels; 1 for the models of timm, which refuse an image that is too small themselves."""


def _conv4(width: int) -> BackboneSpec:
    return BackboneSpec(
        build=lambda in_channels, image_size, generator: Conv4(in_channels, width, generator=generator),
        min_image_size=8,
    )


def _conv4_flat(width: int) -> BackboneSpec:
    return BackboneSpec(
        build=lambda in_channels, image_size, generator: Conv4Flat(in_channels, width, image_size, generator=generator),
        min_image_size=16,
    )


def _resnet12(squeeze_excitation: bool) -> BackboneSpec:
    return BackboneSpec(
        build=lambda in_channels, image_size, generator: ResNet12(
            in_channels,
            dropblock_size=dropblock_size_for(image_size),
            squeeze_excitation=squeeze_excitation,
            generator=generator,
        ),
        min_image_size=16,
    )


def _wide_resnet(depth: int, width: int) -> BackboneSpec:
    check_wide_resnet(depth, width)
    return BackboneSpec(
        build=lambda in_channels, image_size, generator: WideResNet(depth, width, in_channels, generator=generator),
        min_image_size=3,
    )


def _cifar_resnet(depth: int) -> BackboneSpec:
    return BackboneSpec(
        build=lambda in_channels, image_size, generator: CifarResNet(depth, in_channels, generator=generator),
        min_image_size=3,
    )


def _resnet(name: str) -> BackboneSpec:
    def build(in_channels: int, image_size: int, generator: torch.Generator) -> nn.Module:
        from rayfs.backbones.torchvision_backbones import torchvision_resnet

        return torchvision_resnet(name, in_channels, generator)

    return BackboneSpec(build=build, min_image_size=17)


def _mobilenet(width: float) -> BackboneSpec:
    if width <= 0:
        raise InputError(f"backbone 'mobilenet-{width:g}' has no filters; take a width above 0, such as 0.25 or 1.0")

    def build(in_channels: int, image_size: int, generator: torch.Generator) -> nn.Module:
        from rayfs.backbones.torchvision_backbones import torchvision_mobilenet

        return torchvision_mobilenet(width, in_channels, generator)

    return BackboneSpec(build=build, min_image_size=17)


def _timm(name: str) -> BackboneSpec:
    def build(in_channels: int, image_size: int, generator: torch.Generator) -> nn.Module:
        from rayfs.backbones.timm_backbones import timm_backbone

        return timm_backbone(name, in_channels, image_size, generator)

    return BackboneSpec(build=build, min_image_size=1)


BACKBONES: dict[str, BackboneSpec] = {
    "conv4": _conv4(width=64),
    "conv4-32": _conv4(width=32),
    "conv4-flat": _conv4_flat(width=64),
    "conv4-32-flat": _conv4_flat(width=32),
    "resnet12": _resnet12(squeeze_excitation=False),
    "seresnet12": _resnet12(squeeze_excitation=True),
    **{f"resnet{depth}": _cifar_resnet(depth) for depth in DEPTHS},
    **{name: _resnet(name) for name in ("resnet18", "resnet50", "resnet101", "resnet152", "resnext50")},
}
"""The backbones whose name has no part of the user's own (`names.EXACT_NAMES`)."""


def resolve_backbone(name: str) -> BackboneSpec:
    """Return the backbone of this name; nothing is built or imported. Raises InputError for an unknown name."""
    if name in BACKBONES:
        return BACKBONES[name]
    if match := WIDE_RESNET.expression.fullmatch(name):
        return _wide_resnet(int(match[1]), int(match[2]))
    if match := MOBILENET.expression.fullmatch(name):
        return _mobilenet(float(match[1]))
    if match := TIMM.expression.fullmatch(name):
        return _timm(match[1])
    raise InputError(f"unknown backbone {name!r}; choose one of: {backbone_names()}")


def create_backbone(name: str, in_channels: int, image_size: int, generator: torch.Generator) -> nn.Module:
    """Return a freshly initialised backbone: (N, in_channels, image_size, image_size) -> (N, n_features).

    Every initial weight comes from `generator` (on the CPU); the global random state is neither read nor advanced.
    `set_generator` then gives the backbone the generator of its dropout, on the device where it trains.

    Raises InputError for an unknown name, for images too small for the backbone, and for less than one channel.
    """
    spec = resolve_backbone(name)
    if in_channels < 1:
        raise InputError(f"backbone {name!r} needs images with at least 1 channel, got {in_channels}")
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


def blocks(backbone: nn.Module) -> list[nn.Module]:
    """Return the parts of `backbone` that have parameters, from the input on: `layer1` to `layer4` of Conv-4.

    A wrapper around one module counts for nothing.
    """
    parts = [child for child in backbone.children() if next(child.parameters(), None) is not None]
    return blocks(parts[0]) if len(parts) == 1 and blocks(parts[0]) else parts


def n_parameters(module: nn.Module) -> int:
    """Return the number of parameters of `module`, frozen ones included, buffers not."""
    return sum(parameter.numel() for parameter in module.parameters())
