"""The training loop of embedding learning. N images, C classes, D features."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from rayfs.backbones.heads import LinearHead
from rayfs.backbones.registry import n_features
from rayfs.backbones.regularisation import set_generator
from rayfs.benchmarks.augmentation import apply_views, draw_views, normalize, plain_view
from rayfs.benchmarks.registry import Benchmark
from rayfs.benchmarks.tables import ImageTable
from rayfs.engine.bank import embed_table
from rayfs.pretraining.config import PretrainConfig
from rayfs.pretraining.cross_entropy import N_ROTATIONS, cross_entropy, rotations_as_classes
from rayfs.pretraining.validation import few_shot_accuracy, validation_protocol
from rayfs.randomness import torch_generator


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch gave; one row of the learning curve."""

    epoch: int
    """1-based."""
    loss: float
    """Mean training loss."""
    train_accuracy: float
    """Fraction of augmented base images classified correctly, as they were seen."""
    validation_accuracy: float
    """Mean fraction over the validation episodes."""
    validation_half_width: float
    """Of its 95% interval (normal)."""
    seconds: float
    """Of training and validation together."""


class Trainer:
    """A backbone, a linear head over the base classes, and the optimiser of both, on one device."""

    def __init__(
        self, backbone: nn.Module, benchmark: Benchmark, base: ImageTable, config: PretrainConfig, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self._benchmark, self._base = benchmark, base
        self._labels = torch.from_numpy(base.labels)
        n_classes = len(base.class_names) * (N_ROTATIONS if config.rotations else 1)
        self.backbone = backbone.to(device).to(memory_format=torch.channels_last)
        self.head = LinearHead(
            n_features(backbone), n_classes, False, generator=torch_generator(config.seed, "head")
        ).to(device)
        set_generator(backbone, torch_generator(config.seed, "dropout", device=device))
        self._optimizer = torch.optim.SGD(
            [*self.backbone.parameters(), *self.head.parameters()],
            lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True,
        )  # fmt: skip
        self.steps_per_epoch = max(1, len(base) // config.batch)

    def train_epoch(self, epoch: int, on_step: Callable[[], None]) -> tuple[float, float]:
        """Train for the 1-based `epoch`; incomplete last batches are dropped.

        Returns:
            Mean loss and mean accuracy (fraction) over the batches as they were seen.

        Raises:
            FloatingPointError: the loss is no longer finite.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.config, epoch)
        views = torch_generator(self.config.seed, "views", epoch, self.device)
        order = torch.randperm(len(self._base), generator=torch_generator(self.config.seed, "order", epoch))
        self.backbone.train()
        totals = torch.zeros(2, device=self.device)
        for rows in order.split(self.config.batch)[: self.steps_per_epoch]:
            totals += self._step(*self._batch(rows, views))
            on_step()
        loss, accuracy = (totals / self.steps_per_epoch).tolist()
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss of epoch {epoch} is {loss}; lower --lr (it is {self.config.lr})")
        return loss, accuracy

    def _batch(self, rows: torch.Tensor, views: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        augmentation = self._benchmark.augmentation
        images = self._base.take(rows.numpy()).to(self.device)
        x = apply_views(images, augmentation, draw_views(len(rows), augmentation, views))
        x, y = normalize(x, self._benchmark.mean, self._benchmark.std), self._labels[rows].to(self.device)
        return rotations_as_classes(x, y, len(self._base.class_names)) if self.config.rotations else (x, y)

    def _step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        logits = self.head(self.backbone(x.contiguous(memory_format=torch.channels_last)))
        loss = cross_entropy(logits, y)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return torch.stack([loss.detach(), (logits.argmax(1) == y).float().mean()])


def learning_rate(config: PretrainConfig, epoch: int) -> float:
    """Return the learning rate of 1-based `epoch`: one factor `lr_decay` for every decay point already passed.

    Decay points are rounded to whole epochs; the first epoch always has the full rate.
    """
    passed = sum(epoch > max(1, round(share * config.epochs)) for share in config.decay_at)
    return config.lr * config.lr_decay**passed


def validate(
    backbone: nn.Module, benchmark: Benchmark, table: ImageTable, config: PretrainConfig, device: torch.device
) -> np.ndarray:
    """Return the few-shot accuracy (n_episodes,) of the frozen `backbone` on the validation episodes of `config`."""
    features = embed_table(
        table, backbone, lambda images: normalize(plain_view(images), benchmark.mean, benchmark.std), device
    )
    return few_shot_accuracy(features, table, validation_protocol(config, table), config.validation_episodes)
