"""What an objective on single images is. M views of N images, C classes, D features.

Each is a few functions of tensors behind the four methods of `Objective`, and one learner (`forward_learner.py`) serves
them all:

    draws = objective.draw(rows, generator)             # everything random about a step
    views = objective.views(images, draws)              # uint8 -> normalised float, perhaps several views an image
    outputs = objective.networks(views)                 # under autocast, gradients; what several workers share
    targets = objective.targets(views)                  # under autocast, no gradients; {} without a teacher
    outcome = objective.loss(outputs, targets, labels, rows, draws)     # float32
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn


class Draws(Protocol):
    """Everything random about the step of a batch."""

    def part(self, index: slice) -> Self:
        """Return the draws of some of the images; what belongs to no single image stays whole."""
        ...


DrawsT = TypeVar("DrawsT", bound=Draws)
"""What an objective draws: only the objective itself looks inside."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one step gave."""

    loss: Tensor
    """0-d float32, with gradients."""
    parts: dict[str, Tensor]
    """The terms of the loss by name, unweighted, 0-d, without gradients; several workers average them."""
    accuracy: Tensor
    """0-d, fraction of the images classified correctly as they were seen."""


class Objective(Protocol[DrawsT]):
    """A backbone with its heads, and what is minimised.

    Everything random comes from the generator given to `draw`, dropout aside; on several workers each has the same
    draws for the whole batch and then works on its part.
    """

    networks: "Networks"
    """All that is trained, and nothing else; saved under its parameters' names."""

    def draw(self, rows_N: Tensor, generator: torch.Generator) -> DrawsT:
        """Draw what a step of the base images `rows_N` (int64) needs; all on the generator's device."""
        ...

    def views(self, images_NHWC: Tensor, draws: DrawsT) -> Tensor:
        """Make the normalised views (M, channels, S, S) float32 of uint8 images, the first N of them one an image."""
        ...

    def targets(self, views: Tensor) -> dict[str, Tensor]:
        """Return the outputs of the teacher; empty without one."""
        ...

    def loss(
        self,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        labels_N: Tensor,
        rows_N: Tensor,
        draws: DrawsT,
    ) -> Outcome:
        """Return the loss of `outputs` (what `networks` gave the views) and what is worth watching.

        Called once for each step, in training only: it may move state such as a memory bank.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what training has to remember beside `networks` and the optimiser; mostly empty."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        ...


@runtime_checkable
class EpochAware(Protocol):
    """An objective that changes with the epoch has this, too: a weight that decays, say."""

    def start_epoch(self, epoch: int) -> None:
        """Learn of the 1-based epoch before its first step, also after a resume."""
        ...


class Networks(nn.Module):
    """A backbone and heads by name; a head reads the features, or the output of another head.

    Arguments:
        backbone: (M, channels, S, S) -> (M, D), with `n_features`.
        heads: in order of evaluation; names are those of the released codes, so that their checkpoints fit.
        inputs: head -> the output it reads, where that is not "features".
    """

    def __init__(self, backbone: nn.Module, heads: Mapping[str, nn.Module], inputs: Mapping[str, str] = {}) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self._inputs = {name: inputs.get(name, "features") for name in heads}

    def forward(self, views: Tensor) -> dict[str, Tensor]:
        """Return {"features": (M, D), head: (M, ...)}."""
        outputs = {"features": self.backbone(views)}
        for name, head in self.heads.items():
            outputs[name] = head(outputs[self._inputs[name]])
        return outputs


def accuracy(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    """Return the fraction (0-d) of rows whose largest logit is their label's."""
    return (logits_NC.argmax(1) == labels_N).float().mean()
