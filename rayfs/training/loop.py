"""The one training loop: any source, any learner, any schedule; one process or one of several.

Everything random about a step depends on (seed, epoch, step) alone, dropout on (seed, epoch, worker): training that
stops after an epoch and goes on later, or elsewhere, gives the weights of training that never stopped.
"""

from collections.abc import Callable, Mapping
from typing import NoReturn

import torch
from torch import Tensor

from rayfs.backbones.regularisation import set_generator
from rayfs.errors import InputError
from rayfs.randomness import torch_generator
from rayfs.training.config import TrainingConfig
from rayfs.training.learner import Step
from rayfs.training.objective import Networks
from rayfs.training.optimisers import load_optimiser_state, optimiser_state
from rayfs.training.parts import Parts
from rayfs.training.schedules import create_schedule
from rayfs.training.team import Team

CHECK_EVERY = {"cpu": 1, "cuda": 50}
"""Steps between two looks at the losses; a look makes the GPU wait, or the workers."""


class Trainer:
    """The parts of a training on one device, on one of the workers of `team`, which share a step's units evenly."""

    def __init__(self, parts: Parts, config: TrainingConfig, device: torch.device, team: Team) -> None:
        self.source, self.learner, self.config = parts.source, parts.learner, config
        self._device, self._team = device, team
        self._rate = create_schedule(config, self.source.steps_per_epoch)
        self._optimiser = parts.optimiser(self.networks, config)
        self._check_every = CHECK_EVERY.get(device.type, 50) if team.size == 1 else 50

    @property
    def networks(self) -> Networks:
        """All that is being trained."""
        return self.learner.networks

    @property
    def steps_per_epoch(self) -> int:
        """Steps of every epoch."""
        return self.source.steps_per_epoch

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate at the first step of the 1-based `epoch`."""
        return self._rate(epoch, 0)

    def train_epoch(self, epoch: int, on_step: Callable[[], None]) -> tuple[float, float, dict[str, float]]:
        """Train for the 1-based `epoch`.

        Returns:
            Mean loss, mean accuracy (fraction) over the steps as they were seen, and the mean of each part.

        Raises:
            InputError: a loss or the weights are not finite; names the step and its units.
        """
        units_TU = self.source.epoch(epoch)
        self._start_epoch(epoch, units_TU)
        watched: list[Tensor] = []
        names: list[str] = []
        for index, units_U in enumerate(units_TU):
            named = self._step(Step(epoch=epoch, index=index, units_U=units_U, mine=self._team.part(len(units_U))))
            names = list(named)
            watched.append(torch.stack([value.detach().float() for value in named.values()]))
            if (index + 1) % self._check_every == 0 or index + 1 == len(units_TU):
                self._refuse_non_finite(watched, units_TU, epoch, index // self._check_every * self._check_every)
            on_step()
        self._refuse_broken_weights(units_TU, epoch)
        means = self._team.mean(torch.stack(watched).mean(0)).tolist()
        values = dict(zip(names, means, strict=True))
        return values.pop("loss"), values.pop("accuracy"), values

    def _start_epoch(self, epoch: int, units_TU: Tensor) -> None:
        stream = "dropout" if self._team.rank == 0 else f"dropout, worker {self._team.rank}"
        set_generator(self.networks, torch_generator(self.config.seed, stream, epoch, self._device))
        self.networks.train()
        self.learner.start_epoch(epoch, units_TU)

    def _step(self, step: Step) -> dict[str, Tensor]:
        """Make one update; returns what the learner watches."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate(step.epoch, step.index) * group["lr_factor"]
        self._optimiser.zero_grad(set_to_none=True)
        watched = self.learner.gradients(step)
        self._optimiser.step()
        return watched

    def _refuse_non_finite(self, watched: list[Tensor], units_TU: Tensor, epoch: int, checked: int) -> None:
        losses = self._team.mean(torch.stack(watched[checked:])[:, 0])
        if not losses.isfinite().all():
            first = int(losses.isfinite().logical_not().nonzero()[0])
            step = checked + first + 1
            self._refuse(f"the loss of {self._named_step(epoch, step)} is {losses[first].item()}", units_TU[step - 1])

    def _refuse_broken_weights(self, units_TU: Tensor, epoch: int) -> None:
        """Refuse weights or statistics that the last step broke, before validation meets them."""
        tensors = [value for value in self.networks.state_dict().values() if value.is_floating_point()]
        finite = torch.stack([value.isfinite().all() for value in tensors]).all().float()
        if self._team.mean(finite) < 1:
            self._refuse(
                f"the weights after {self._named_step(epoch, self.steps_per_epoch)} are not finite", units_TU[-1]
            )

    def _named_step(self, epoch: int, step: int) -> str:
        return f"epoch {epoch}, step {step} of {self.steps_per_epoch},"

    def _refuse(self, what: str, units_U: Tensor) -> NoReturn:
        raise InputError(
            f"{what}; {self.source.named(units_U)}. Finished epochs are kept. Lower --lr (it is {self.config.lr}), or "
            f"look at those {self.source.unit}"
        )

    def state(self) -> dict[str, Tensor]:
        """Return all that training has to remember, by name; with the epoch it makes the rest of training certain."""
        state = {f"networks/{name}": value for name, value in self.networks.state_dict().items()}
        state |= optimiser_state(self._optimiser, self.networks)
        return state | {f"objective/{name}": value for name, value in self.learner.state().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""

        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(name): value for key, value in state.items() if key.startswith(name)}

        self.networks.load_state_dict(part("networks/"))
        remembered = {key: value for key, value in state.items() if key.startswith(("momentum/", "optimiser/"))}
        load_optimiser_state(self._optimiser, self.networks, remembered)
        self.learner.load_state(part("objective/"))
