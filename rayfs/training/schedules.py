"""How the learning rate falls: by epochs, or with every step. No torch here."""

import math
from collections.abc import Callable
from typing import Any

from rayfs.training.config import TrainingConfig

Schedule = Callable[[int, int], float]
"""(1-based epoch, 0-based step of that epoch) -> learning rate."""


def create_schedule(config: TrainingConfig, steps_per_epoch: int) -> Schedule:
    """Return the schedule of `config`.

    step: one factor `lr_decay` for every decay point already passed; points are rounded to whole epochs, and the first
    epoch always has the full rate. cosine: `lr/2 (1 + cos(π (epoch - 1) / epochs))`. poly, with every step:
    `lr (1 - t/T)^power`, t of T steps taken (DeepLab, Chen et al., TPAMI 2018, section 4.1; stage 1 of GRDD).
    """
    made: dict[str, Callable[[TrainingConfig, int], Schedule]] = {"step": _step, "cosine": _cosine, "poly": _poly}
    return made[config.schedule](config, steps_per_epoch)


def _step(config: TrainingConfig, steps_per_epoch: int) -> Schedule:
    lr, epochs, decay, points = config.lr, config.epochs, _decided(config.lr_decay), _decided(config.decay_at)

    def rate(epoch: int, step: int) -> float:
        passed = sum(epoch > max(1, round(share * epochs)) for share in points)
        return float(lr * decay**passed)

    return rate


def _cosine(config: TrainingConfig, steps_per_epoch: int) -> Schedule:
    return lambda epoch, step: config.lr / 2 * (1 + math.cos(math.pi * (epoch - 1) / config.epochs))


def _poly(config: TrainingConfig, steps_per_epoch: int) -> Schedule:
    power, n_steps = _decided(config.poly_power), config.epochs * steps_per_epoch

    def rate(epoch: int, step: int) -> float:
        taken = (epoch - 1) * steps_per_epoch + step
        return float(config.lr * (1 - taken / n_steps) ** power)

    return rate


def _decided(value: Any) -> Any:
    assert value is not None, "the configuration is resolved"
    return value
