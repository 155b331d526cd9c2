"""Dropout and DropBlock that draw from a generator the caller gives, with static shapes and no device sync.

Noise is drawn in N, H, W, C order whatever the layout of the maps: the same generator drops the same units in
channels-last and in contiguous tensors, and in channels-last the mask's memory layout fits the maps'.

`torch.compile` cannot trace a generator and breaks its graph at each draw; the masks are the same either way.

Shapes: N images, C channels, H x W map, h x w positions where a whole block fits (H - block_size + 1).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RAMP_FORWARDS = 40_000
"""Training forwards until DropBlock reaches its full drop rate (released code of RFS: 20 x 2000)."""


def drop_probability(n_forwards: Tensor, drop_rate: float) -> Tensor:
    """Return DropBlock's drop probability after `n_forwards` (0-d integer tensor) training forwards, a float32 scalar.

    It is 1 - keep with keep = max(1 - drop_rate / 40000 · n, 1 - drop_rate), computed without the subtraction, which
    would cost the first steps (drop 2.5e-6) two digits in float32.
    """
    return (n_forwards * (drop_rate / RAMP_FORWARDS)).clamp(max=drop_rate)


def seed_rate(drop: Tensor, block_size: int, height: int, width: int) -> Tensor:
    """Return the Bernoulli rate γ of block corners that drops about `drop` of all units.

    γ = (1 - keep) / bs² · fs² / (fs - bs + 1)² (DropBlock, https://arxiv.org/abs/1810.12890, equation 1), with the
    two sides of the map multiplied instead of squared where they differ.
    """
    n_positions = (height - block_size + 1) * (width - block_size + 1)
    return drop * (height * width / (block_size**2 * n_positions))


def expand_blocks(seeds_NChw: Tensor, block_size: int) -> Tensor:
    """Turn every 1 of `seeds_NChw` (float 0/1) into a block_size² square whose top left corner it is: (N, C, H, W).

    Deviation: the released code pairs seeds with block offsets through two tiled lists, which visits every pair only
    where the number of seeds and block_size² share no factor (25 seeds and size 5 give 25 cells, not 625). Here every
    seed drops its whole block, as the DropBlock paper says.
    """
    margin = block_size - 1
    return F.max_pool2d(F.pad(seeds_NChw, (margin, margin, margin, margin)), block_size, stride=1)


class Dropout(nn.Module):
    """Zero each unit with probability `drop_rate` in training and divide the rest by 1 - drop_rate.

    `generator` must be on the maps' device; it is not copied with the module (see `set_generator`).
    """

    def __init__(self, drop_rate: float) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.generator: torch.Generator | None = None

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Return the maps, unchanged in evaluation. Raises RuntimeError in training without a generator."""
        if not self.training or self.drop_rate == 0:
            return maps_NCHW
        height, width = maps_NCHW.shape[2:]
        keep = _uniform(maps_NCHW, height, width, _required(self)) >= self.drop_rate
        return maps_NCHW * (keep.to(maps_NCHW.dtype) / (1 - self.drop_rate))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "generator": None}

    def extra_repr(self) -> str:
        return f"drop_rate={self.drop_rate}"


class DropBlock(nn.Module):
    """Zero squares of each map in training, more of them as training goes on, and rescale by count / ones.

    Source: Ghiasi, Lin, Le, "DropBlock: a regularization method for convolutional networks", NeurIPS 2018,
    https://arxiv.org/abs/1810.12890, with the ramp and the rescaling of the ResNet-12 of RFS. Masks differ by channel.

    The ramp's position is explicit state: `n_forwards`, a buffer that stays out of the state dict, so that foreign
    checkpoints load strictly, and that lives on the device, so that a captured step advances it without a sync.

    Deviation: the released code counts in a Python attribute that evaluation advances, too; here only training does.
    Deviation: a block larger than the map is cut to the map (a 28-pixel image ends in a 1 x 1 map), where the released
    formula divides by zero.
    """

    n_forwards: Tensor

    def __init__(self, drop_rate: float, block_size: int) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.block_size = block_size
        self.generator: torch.Generator | None = None
        self.register_buffer("n_forwards", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Return the maps, unchanged in evaluation. Raises RuntimeError in training without a generator.

        The first training forward counts as n = 1. If every unit is dropped the result is 0 (not 0 · ∞).
        """
        if not self.training or self.drop_rate == 0:
            return maps_NCHW
        generator = _required(self)
        self.n_forwards.add_(1)
        height, width = maps_NCHW.shape[2:]
        size = min(self.block_size, height, width)
        rate = seed_rate(drop_probability(self.n_forwards, self.drop_rate), size, height, width)
        noise_NChw = _uniform(maps_NCHW, height - size + 1, width - size + 1, generator)
        keep = 1 - expand_blocks((noise_NChw < rate).to(maps_NCHW.dtype), size)
        return maps_NCHW * keep * (keep.numel() / keep.sum(dtype=torch.float32).clamp(min=1))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "generator": None}

    def extra_repr(self) -> str:
        return f"drop_rate={self.drop_rate}, block_size={self.block_size}"


def set_generator(module: nn.Module, generator: torch.Generator | None) -> None:
    """Give every Dropout and DropBlock inside `module` the generator it draws from, on the device of the maps.

    All share the one stream, in the order of the forward pass. Copies of a module (deepcopy, pickle) have none until
    they are given theirs: two models that silently replay the same masks would not be independent.
    """
    for child in module.modules():
        if isinstance(child, Dropout | DropBlock):
            child.generator = generator


def generators(module: nn.Module) -> list[torch.Generator]:
    """Return what the Dropouts and DropBlocks inside `module` draw from, each once."""
    found = [child.generator for child in module.modules() if isinstance(child, Dropout | DropBlock)]
    return list({id(generator): generator for generator in found if generator is not None}.values())


def reset_ramp(module: nn.Module, n_forwards: int = 0) -> None:
    """Set every DropBlock inside `module` to the state after `n_forwards` training forwards.

    The released Label Hallucination code makes a new model for each episode, so each episode starts at 0.
    """
    for child in module.modules():
        if isinstance(child, DropBlock):
            child.n_forwards.fill_(n_forwards)


def set_drop_rate(module: nn.Module, drop_rate: float) -> None:
    """Set the drop rate of every Dropout and DropBlock inside `module`; 0 switches them off."""
    for child in module.modules():
        if isinstance(child, Dropout | DropBlock):
            child.drop_rate = drop_rate


def has_dropout(module: nn.Module) -> bool:
    """Tell whether dropout or DropBlock is anywhere in `module`, at whatever rate."""
    return any(isinstance(part, Dropout | DropBlock) for part in module.modules())


def _required(module: Dropout | DropBlock) -> torch.Generator:
    if module.generator is None:
        raise RuntimeError(
            f"{type(module).__name__} is in training mode with drop_rate {module.drop_rate} but has no generator: call "
            "rayfs.backbones.set_generator(model, generator) before training (again after copying a model), "
            "or model.eval()"
        )
    return module.generator


def _uniform(maps_NCHW: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    n_images, n_channels = maps_NCHW.shape[:2]
    noise_NHWC = torch.rand((n_images, height, width, n_channels), generator=generator, device=maps_NCHW.device)
    return noise_NHWC.permute(0, 3, 1, 2)
