"""What a method is: a function from an episode's images and a world to the logits of its queries.

Shapes: S = n_way n_shot support images, Q = n_way n_query query images, H x W pixels, C channels, K = n_way classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn

from rayfs.datasets.augmentation import Augmentation, apply_views, draw_views, normalize, plain_view
from rayfs.engine.bank import BaseBank
from rayfs.randomness import EpisodeRandomness


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What a method sees of an episode. The labels of the queries are not in it."""

    support_images: torch.Tensor
    """(S, H, W, C) uint8."""
    support_labels: torch.Tensor
    """(S,) int64 in [0, n_way)."""
    query_images: torch.Tensor
    """(Q, H, W, C) uint8."""
    n_way: int


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """What all episodes of a worker share; nothing in it may be changed."""

    backbone: nn.Module
    """Frozen, in eval mode, on `device`; methods that finetune copy it."""
    bank: BaseBank
    augmentation: Augmentation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device
    activations: Mapping[tuple[int, int], BaseBank] = field(default_factory=dict)
    """(frozen blocks F, views V) -> what the first F blocks of the backbone make of V views of each base image."""
    networks: Mapping[str, nn.Module] = field(default_factory=dict)
    """Checkpoint, as `Needs.networks` names it -> a learnt network that a method uses beside the backbone, frozen."""

    def plain(self, images: torch.Tensor) -> torch.Tensor:
        """Return network inputs (n, C, H, W) of uint8 images (n, H, W, C), without augmentation."""
        return normalize(plain_view(images.to(self.device)), self.mean, self.std)

    def views(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return network inputs (n, C, H, W): one random view of each uint8 image (n, H, W, C)."""
        drawn = draw_views(len(images), self.augmentation, generator)
        return normalize(apply_views(images.to(self.device), self.augmentation, drawn), self.mean, self.std)


@dataclass(frozen=True, kw_only=True, eq=False)
class TopBase:
    """The base images that the classifier behind the hallucinated labels is surest of."""

    rows: torch.Tensor
    """(K, n) int64 rows of the base table for each class, surest first."""
    probabilities: torch.Tensor
    """(K, n) float32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Joint:
    """Predictions among the K classes of the episode, which come first, and the C base classes."""

    novel_predictions: torch.Tensor
    """(Q,) int64 in [0, K + C), of the queries."""
    base_predictions: torch.Tensor
    """(M,) int64 in [0, K + C), of base images."""
    base_labels: torch.Tensor
    """(M,) int64 in [K, K + C), of the same images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """What a method returns."""

    logits: torch.Tensor
    """(Q, K) float32."""
    steps: int = 0
    """Optimisation steps taken."""
    loss_base: float | None = None
    """Loss on base images in the last step, if there is one."""
    loss_support: float | None = None
    """Loss on support images in the last step, if there is one."""
    top_base: TopBase | None = None
    """What the hallucinated labels are surest of, for methods that hallucinate."""
    joint: Joint | None = None
    """Recognition of novel and base classes at once, where it is asked for."""


class Method(Protocol):
    """Solves one episode; touches no disk, no Ray and no global state."""

    def solve(self, task: Task, world: World, randomness: EpisodeRandomness) -> Solution:
        """Return the logits of the queries of `task`."""
        ...
