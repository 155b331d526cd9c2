"""The learner of images: views of a batch, one forward pass, a loss. N images of a worker, U of the whole step."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rayfs.backbones.regularisation import reset_ramp
from rayfs.datasets.image_table import ImageTable
from rayfs.engine.row_input import RowInput, resident, resident_bytes
from rayfs.randomness import torch_generator
from rayfs.training.config import TrainingConfig
from rayfs.training.learner import Step
from rayfs.training.objective import EpochAware, Networks, Objective
from rayfs.training.parts import Given, Parts
from rayfs.training.sources import ImageRows
from rayfs.training.team import Team, refuse_uneven


class ForwardLearner:
    """An objective of images on one device, on one of the workers of `team`; DDP averages the gradients.

    Arguments:
        batch: U.
    """

    def __init__(
        self,
        objective: Objective[Any],
        base: ImageTable,
        batch: int,
        config: TrainingConfig,
        device: torch.device,
        team: Team,
    ) -> None:
        self.objective, self._device, self._seed = objective, device, config.seed
        self._labels = torch.from_numpy(base.labels).to(device)
        on_device = resident(base.images, device, resident_bytes(device))
        self._images = RowInput(base.images, on_device, device, max(1, batch // team.size))
        self._networks = objective.networks.to(device).to(memory_format=torch.channels_last)
        self._trained: nn.Module = self._networks
        if team.size > 1:
            self._trained = DistributedDataParallel(
                self._networks, device_ids=[device] if device.type == "cuda" else None
            )
        self._autocast = config.precision == "bf16"
        self._views, self._rows_TU = torch_generator(0, "views"), torch.empty(0, 0)

    @property
    def networks(self) -> Networks:
        """The objective's."""
        return self.objective.networks

    def start_epoch(self, epoch: int, units_TU: Tensor) -> None:
        """Start the epoch's stream of views, set DropBlock's ramp, and tell an objective that wants to know."""
        reset_ramp(self._networks, (epoch - 1) * len(units_TU))
        self._views = torch_generator(self._seed, "views", epoch, self._device)
        # Once an epoch to the GPU: a copy in every step would make the host wait for the step before.
        self._rows_TU = units_TU.to(self._device)
        if isinstance(self.objective, EpochAware):
            self.objective.start_epoch(epoch)

    def gradients(self, step: Step) -> dict[str, Tensor]:
        """Make the gradients of the loss of a step's images."""
        objective, rows_U = self.objective, self._rows_TU[step.index]
        self._images.load(step.units_U[step.mine].numpy())
        draws, rows_N = objective.draw(rows_U, self._views).part(step.mine), rows_U[step.mine]
        labels_N = self._labels[rows_N]
        views = objective.views(self._images.read(rows_N), draws).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            outputs = self._trained(views)
            with torch.no_grad():
                targets = objective.targets(views)
        outcome = objective.loss(
            {name: output.float() for name, output in outputs.items()},
            {name: target.float() for name, target in targets.items()},
            labels_N,
            rows_N,
            draws,
        )
        torch.autograd.backward(outcome.loss)
        return {"loss": outcome.loss.detach(), "accuracy": outcome.accuracy, **outcome.parts}

    def state(self) -> dict[str, Tensor]:
        """Return the objective's."""
        return self.objective.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Give it back to the objective."""
        self.objective.load_state(state)


def image_parts(objective: Objective[Any], given: Given) -> Parts:
    """Return the parts of a training on single images by `objective`.

    Raises:
        InputError: the images of a step cannot be shared evenly by the workers.
    """
    config = given.config
    assert config.sampler is not None, "an objective of images has a sampler"
    source = ImageRows(given.base.labels, config.batch, config.sampler, config.seed)
    refuse_uneven(source.units_per_step, source.unit, given.team.size)
    learner = ForwardLearner(objective, given.base, source.units_per_step, config, given.device, given.team)
    return Parts(source=source, learner=learner)
