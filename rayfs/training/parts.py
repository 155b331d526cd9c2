"""What an objective is made from, and what it is made of: the parts that the loop puts together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rayfs.datasets.image_table import ImageTable
from rayfs.datasets.registry import Benchmark
from rayfs.randomness import torch_generator
from rayfs.training.config import TrainingConfig
from rayfs.training.learner import Learner
from rayfs.training.objective import Networks
from rayfs.training.optimisers import sgd
from rayfs.training.sources import Source
from rayfs.training.team import Team

CreateOptimiser = Callable[[Networks, TrainingConfig], torch.optim.Optimizer]
"""(networks on their device, settings) -> an optimiser whose groups have an `lr_factor` beside `lr`."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What an objective is made from."""

    config: TrainingConfig
    backbone: nn.Module
    """Of the student, fresh or from --init. An objective that copies its teacher does not use it."""
    teacher: Networks | None = None
    """Frozen, on the device; None for objectives without one."""
    benchmark: Benchmark
    base: ImageTable
    device: torch.device
    team: Team

    @property
    def settings(self) -> Any:
        """The objective's own settings."""
        return self.config.settings

    @property
    def n_classes(self) -> int:
        """C, base classes."""
        return len(self.base.class_names)

    def demanded_teacher(self) -> Networks:
        """Return the teacher of an objective that needs one."""
        assert self.teacher is not None, f"{self.config.objective} has a teacher: the settings are resolved"
        return self.teacher

    def head_generator(self) -> torch.Generator:
        """Return a generator of the initial weights of heads, always in the same state."""
        return torch_generator(self.config.seed, "head")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the loop puts together."""

    source: Source
    learner: Learner
    optimiser: CreateOptimiser = sgd
