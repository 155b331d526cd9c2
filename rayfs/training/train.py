"""The one training loop of embedding learning: any objective, one process or one of several. N images of a batch.

Everything random about a step depends on (seed, epoch, step) alone, dropout on (seed, epoch, worker): training that
stops after an epoch and goes on later, or elsewhere, gives the weights of training that never stopped.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rayfs.backbones.regularisation import reset_ramp, set_generator
from rayfs.datasets.augmentation import normalize, plain_view
from rayfs.datasets.image_table import ImageTable
from rayfs.datasets.registry import Benchmark
from rayfs.engine.bank import embed_table
from rayfs.engine.row_input import RowInput, resident, resident_bytes
from rayfs.errors import InputError
from rayfs.randomness import torch_generator
from rayfs.training.config import PretrainConfig
from rayfs.training.objective import Networks, Objective
from rayfs.training.sampling import epoch_rows
from rayfs.training.validation import class_accuracy, few_shot_accuracy, validation_protocol

CHECK_EVERY = {"cpu": 1, "cuda": 50}
"""Steps between two looks at the losses; a look makes the GPU wait, or the workers."""

NAMED_ROWS = 64
"""How many rows of a batch an error message names."""


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch gave; one row of the learning curve."""

    epoch: int
    """1-based."""
    learning_rate: float
    loss: float
    """Mean training loss."""
    parts: dict[str, float] = field(default_factory=dict)
    """Mean of each term of the loss, unweighted."""
    train_accuracy: float
    """Fraction of augmented base images classified correctly, as they were seen."""
    validation_accuracy: float
    """Mean fraction over the validation episodes, or over the classes of a long-tailed benchmark."""
    validation_half_width: float
    """Of its 95% interval (normal)."""
    seconds: float
    """Of training and validation together."""
    images_per_second: float
    """Base images trained on in a second, over all workers."""


@dataclass(frozen=True, kw_only=True)
class Team:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of_this_process(cls) -> "Team":
        """Ask torch.distributed; alone where it is not in use."""
        if not torch.distributed.is_initialized():
            return cls()
        return cls(rank=torch.distributed.get_rank(), size=torch.distributed.get_world_size())

    def part(self, n: int) -> slice:
        """Return which of a batch of `n` images are this process's."""
        each = n // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of `values` over all processes."""
        if self.size == 1:
            return values
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total / self.size


class Trainer:
    """An objective and its optimiser on one device, on one of the workers of `team`.

    Raises:
        InputError: the batch cannot be shared evenly by the workers.
    """

    def __init__(
        self, objective: Objective, base: ImageTable, config: PretrainConfig, device: torch.device, team: Team
    ) -> None:
        assert config.batch is not None and config.lr is not None, "the configuration is resolved"
        self.objective, self.config, self._device, self._team = objective, config, device, team
        self._labels_of, self._labels = base.labels, torch.from_numpy(base.labels).to(device)
        self.batch = min(config.batch, len(base))
        if self.batch % team.size:
            raise InputError(
                f"a batch of {self.batch} images cannot be shared evenly by {team.size} workers; choose --workers or "
                "--batch so that one divides the other"
            )
        on_device = resident(base.images, device, resident_bytes(device))
        self._images = RowInput(base.images, on_device, device, self.batch // team.size)
        self.steps_per_epoch = len(base) // self.batch
        networks = objective.networks.to(device).to(memory_format=torch.channels_last)
        self._trained: nn.Module = networks
        if team.size > 1:
            self._trained = DistributedDataParallel(networks, device_ids=[device] if device.type == "cuda" else None)
        assert config.weight_decay is not None, "the configuration is resolved"
        self._optimizer = torch.optim.SGD(
            parameter_groups(networks, config), lr=config.lr, momentum=config.momentum,
            weight_decay=config.weight_decay, fused=True,
        )  # fmt: skip
        self._autocast = config.precision == "bf16"

    @property
    def backbone(self) -> nn.Module:
        """The backbone that is being trained."""
        return self.objective.networks.backbone

    def train_epoch(self, epoch: int, on_step: Callable[[], None]) -> tuple[float, float, dict[str, float]]:
        """Train for the 1-based `epoch`; incomplete last batches are dropped.

        Returns:
            Mean loss, mean accuracy (fraction) over the batches as they were seen, and the mean of each part.

        Raises:
            InputError: a loss or the weights are not finite; names the step and the images.
        """
        assert self.config.sampler is not None, "the configuration is resolved"
        self._start_epoch(epoch)
        generator = torch_generator(self.config.seed, "views", epoch, self._device)
        order = epoch_rows(self._labels_of, self.config.sampler, torch_generator(self.config.seed, "order", epoch))
        # Once an epoch to the GPU: a copy in every step would make the host wait for the step before.
        batches = order.to(self._device).split(self.batch)[: self.steps_per_epoch]
        host_batches = order.split(self.batch)
        check_every = CHECK_EVERY.get(self._device.type, 50) if self._team.size == 1 else 50
        watched: list[Tensor] = []
        names: list[str] = []
        for step, rows in enumerate(batches, start=1):
            named = self._step(rows, host_batches[step - 1], generator)
            names = list(named)
            watched.append(torch.stack([value.detach().float() for value in named.values()]))
            if step % check_every == 0 or step == len(batches):
                self._refuse_non_finite(watched, batches, epoch, checked=(step - 1) // check_every * check_every)
            on_step()
        self._refuse_broken_weights(batches, epoch)
        means = self._team.mean(torch.stack(watched).mean(0)).tolist()
        values = dict(zip(names, means, strict=True))
        return values.pop("loss"), values.pop("accuracy"), values

    def _start_epoch(self, epoch: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.config, epoch) * group["lr_factor"]
        stream = "dropout" if self._team.rank == 0 else f"dropout, worker {self._team.rank}"
        set_generator(self._trained, torch_generator(self.config.seed, stream, epoch, self._device))
        reset_ramp(self._trained, (epoch - 1) * self.steps_per_epoch)
        self._trained.train()

    def _step(self, rows: Tensor, host_rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Make one update with base images `rows` (N,), on the device and on the host; 0-d loss, accuracy and parts."""
        objective, mine = self.objective, self._team.part(len(rows))
        self._images.load(host_rows[mine].numpy())
        draws, rows = objective.draw(rows, generator).part(mine), rows[mine]
        labels = self._labels[rows]
        views = objective.views(self._images.read(rows), draws).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            outputs = self._trained(views)
            with torch.no_grad():
                targets = objective.targets(views)
        outcome = objective.loss(
            {name: output.float() for name, output in outputs.items()},
            {name: target.float() for name, target in targets.items()},
            labels,
            rows,
            draws,
        )
        self._optimizer.zero_grad(set_to_none=True)
        outcome.loss.backward()
        self._optimizer.step()
        return {"loss": outcome.loss, "accuracy": outcome.accuracy, **outcome.parts}

    def _refuse_non_finite(self, watched: list[Tensor], batches: Sequence[Tensor], epoch: int, checked: int) -> None:
        losses = self._team.mean(torch.stack(watched[checked:])[:, 0])
        if not losses.isfinite().all():
            first = int(losses.isfinite().logical_not().nonzero()[0])
            step = checked + first + 1
            self._refuse(f"the loss of {self._named_step(epoch, step)} is {losses[first].item()}", batches[step - 1])

    def _refuse_broken_weights(self, batches: Sequence[Tensor], epoch: int) -> None:
        """Refuse weights or statistics that the last step broke, before validation meets them."""
        tensors = [value for value in self.objective.networks.state_dict().values() if value.is_floating_point()]
        finite = torch.stack([value.isfinite().all() for value in tensors]).all().float()
        if self._team.mean(finite) < 1:
            self._refuse(
                f"the weights after {self._named_step(epoch, self.steps_per_epoch)} are not finite", batches[-1]
            )

    def _named_step(self, epoch: int, step: int) -> str:
        return f"epoch {epoch}, step {step} of {self.steps_per_epoch},"

    def _refuse(self, what: str, rows: Tensor) -> NoReturn:
        named = ", ".join(map(str, rows.tolist()[:NAMED_ROWS]))
        if len(rows) > NAMED_ROWS:
            named += f" and {len(rows) - NAMED_ROWS} more"
        raise InputError(
            f"{what}; the step's images are the rows {named} of the base table. Finished "
            f"epochs are kept. Lower --lr (it is {self.config.lr}), or look at those images"
        )

    def state(self) -> dict[str, Tensor]:
        """Return all that training has to remember, by name; with the epoch it makes the rest of training certain."""
        state = {f"networks/{name}": value for name, value in self.objective.networks.state_dict().items()}
        for name, parameter in self.objective.networks.named_parameters():
            momentum = self._optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                state[f"momentum/{name}"] = momentum
        return state | {f"objective/{name}": value for name, value in self.objective.state().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        parts: dict[str, dict[str, Tensor]] = {"networks": {}, "momentum": {}, "objective": {}}
        for full_name, value in state.items():
            kind, _, name = full_name.partition("/")
            parts[kind][name] = value
        self.objective.networks.load_state_dict(parts["networks"])
        parameters = dict(self.objective.networks.named_parameters())
        for name, value in parts["momentum"].items():
            # The layout of the parameter: another one would be summed in another order.
            buffer = torch.empty_like(parameters[name]).copy_(value)
            self._optimizer.state[parameters[name]]["momentum_buffer"] = buffer
        self.objective.load_state(parts["objective"])


def parameter_groups(networks: Networks, config: PretrainConfig) -> list[dict[str, Any]]:
    """Return the optimiser's groups: all parameters, or with `head_lr` the backbone's and those of the heads.

    `lr_factor` is what the learning rate of the epoch is multiplied with.
    """
    if config.head_lr is None:
        return [{"params": list(networks.parameters()), "lr_factor": 1.0}]
    assert config.lr is not None, "the configuration is resolved"
    return [
        {"params": list(networks.backbone.parameters()), "lr_factor": 1.0},
        {"params": list(networks.heads.parameters()), "lr_factor": config.head_lr / config.lr},
    ]


def learning_rate(config: PretrainConfig, epoch: int) -> float:
    """Return the learning rate of 1-based `epoch`.

    step: one factor `lr_decay` for every decay point already passed; points are rounded to whole epochs, and the first
    epoch always has the full rate. cosine: `lr/2 (1 + cos(π (epoch - 1) / epochs))`.
    """
    assert config.lr is not None and config.epochs is not None, "the configuration is resolved"
    if config.schedule == "cosine":
        return config.lr / 2 * (1 + math.cos(math.pi * (epoch - 1) / config.epochs))
    assert config.lr_decay is not None and config.decay_at is not None, "the configuration is resolved"
    passed = sum(epoch > max(1, round(share * config.epochs)) for share in config.decay_at)
    return config.lr * config.lr_decay**passed


def validate(
    backbone: nn.Module, benchmark: Benchmark, table: ImageTable, config: PretrainConfig, device: torch.device
) -> np.ndarray:
    """Return the few-shot accuracy (n_episodes,) of the frozen `backbone` on the validation episodes of `config`.

    Raises:
        InputError: a feature is not finite.
    """
    features = _embed(table, backbone, benchmark, config, device, "features")
    return few_shot_accuracy(features, table, validation_protocol(config, table), config.validation_episodes)


def validate_classifier(
    networks: Networks,
    class_names: Sequence[str],
    benchmark: Benchmark,
    table: ImageTable,
    config: PretrainConfig,
    device: torch.device,
) -> np.ndarray:
    """Return the top-1 accuracy (n_classes of `table`,) of the trained classifier on the images of each class.

    Arguments:
        networks: with the head "classifier", in eval mode.
        class_names: of the classifier's outputs; those of `table` are among them.

    Raises:
        InputError: a logit is not finite.
    """
    logits = _embed(table, ClassifierLogits(networks), benchmark, config, device, "logits")
    return class_accuracy(logits[:, : len(class_names)], class_names, table)


class ClassifierLogits(nn.Module):
    """The backbone with its classifier: images -> logits."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self._networks = networks
        self.train(networks.training)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, n_outputs)."""
        return self._networks(images)["classifier"]


def _embed(
    table: ImageTable, module: nn.Module, benchmark: Benchmark, config: PretrainConfig, device: torch.device, what: str
) -> np.ndarray:
    values = embed_table(
        table, module, lambda images: normalize(plain_view(images), benchmark.mean, benchmark.std), device
    )
    n_bad = int((~np.isfinite(values).all(axis=1)).sum())
    if n_bad:
        raise InputError(
            f"the {what} of {n_bad} of {len(values)} validation images are not finite; lower --lr ({config.lr})"
        )
    return values
