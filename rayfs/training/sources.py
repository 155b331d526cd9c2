"""What an epoch goes through, unit by unit: images here; whole episodes are another source. T steps of U units."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from rayfs.randomness import torch_generator
from rayfs.training.sampling import epoch_rows

NAMED_UNITS = 64
"""How many units of a step an error message names."""


class Source(Protocol):
    """The units of every step, a pure function of the epoch.

    A unit is what a worker works on alone: a step's units are shared evenly by the workers. Its number means something
    to the learner: the row of an image, or the number of an episode, which is a function of (epoch, step, place).
    """

    @property
    def unit(self) -> str:
        """What a step is a number of, in the plural."""
        ...

    @property
    def units_per_step(self) -> int:
        """U, over all workers."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """T."""
        ...

    def epoch(self, epoch: int) -> Tensor:
        """Return the units of the 1-based `epoch`, (T, U) int64 on the CPU."""
        ...

    def named(self, units_U: Tensor) -> str:
        """Return what an error message says of the units of a step."""
        ...


@dataclass(frozen=True)
class ImageRows:
    """Rows of a base table in the order of a sampler; the incomplete last batch is dropped.

    Arguments:
        labels: class of each row, (N,).
        batch: images a step; all where there are fewer.
        sampler: as `epoch_rows` has it.
        seed: of the stream "order", one generator an epoch.
    """

    labels: np.ndarray
    batch: int
    sampler: str
    seed: int

    unit = "images"

    @property
    def units_per_step(self) -> int:
        """Images a step."""
        return min(self.batch, len(self.labels))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the table."""
        return len(self.labels) // self.units_per_step

    def epoch(self, epoch: int) -> Tensor:
        """Return the rows of the 1-based `epoch`, (T, U) int64."""
        order = epoch_rows(self.labels, self.sampler, torch_generator(self.seed, "order", epoch))
        return order[: self.steps_per_epoch * self.units_per_step].view(-1, self.units_per_step)

    def named(self, units_U: Tensor) -> str:
        """Return "the step's images are the rows 5, 17 of the base table"."""
        return f"the step's images are the rows {enumerated(units_U.tolist())} of the base table"


def enumerated(numbers: Sequence[int]) -> str:
    """Return "5, 17, 4", and of more than 64 how many more there are."""
    named = ", ".join(map(str, numbers[:NAMED_UNITS]))
    return named if len(numbers) <= NAMED_UNITS else f"{named} and {len(numbers) - NAMED_UNITS} more"
