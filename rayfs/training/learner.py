"""What turns the units of a step into gradients."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from rayfs.training.objective import Networks


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of training."""

    epoch: int
    """1-based."""
    index: int
    """0-based, in its epoch."""
    units_U: Tensor
    """The step's units over all workers, int64 on the CPU."""
    mine: slice
    """Those of this worker."""


class Learner(Protocol):
    """Networks, and the gradient of a step.

    `forward_learner.py` is the kind with one forward pass before a loss. A learner of episodes goes through its tasks
    one by one, gathers their gradients and sums them in the order of the tasks.
    """

    @property
    def networks(self) -> Networks:
        """All that is trained, and nothing else, on the device where it is trained."""
        ...

    def start_epoch(self, epoch: int, units_TU: Tensor) -> None:
        """Learn of the 1-based epoch, and of the units of all its steps, before the first one.

        Called after networks are in training mode and have their generator of dropout. A ramp of DropBlock is set here:
        the learner alone knows how many forward passes a step has.
        """
        ...

    def gradients(self, step: Step) -> dict[str, Tensor]:
        """Leave in `.grad` of every parameter the mean gradient over the step's units, the same on every worker.

        Gradients of the step before are gone already.

        Returns:
            What is worth watching, 0-d, without gradients, of this worker's units: "loss", "accuracy", and the parts of
            the loss by name; always the same names.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what training has to remember beside `networks` and the optimiser; mostly empty."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        ...
