"""An objective in one file: prototypes of whole episodes, with a source, a learner and an optimiser of its own.

Nothing of rayfs knows it; tests put it into the registry. It uses every seam that the objectives of rayfs leave unused:
units that are episodes, gradients task by task, a loss that changes with the epoch, another optimiser, another
validation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rayfs.datasets.augmentation import draw_views
from rayfs.datasets.episodes import Protocol, draw_episode
from rayfs.randomness import torch_generator
from rayfs.training.learner import Step
from rayfs.training.objective import Networks, accuracy
from rayfs.training.objectives.cross_entropy.loss import augmented
from rayfs.training.objectives.definition import ObjectiveDefinition
from rayfs.training.parts import Given, Parts
from rayfs.training.sources import enumerated
from rayfs.training.team import refuse_uneven
from rayfs.training.validation import FewShotAccuracy, by_benchmark


@dataclass(frozen=True, kw_only=True)
class PrototypesSettings:
    """How episodes are drawn and compared."""

    n_way: int = 3
    """Classes of an episode (ours)."""
    sharpness: float = 1.0
    """What squared distances are multiplied with, in the first epoch; twice that in the second (ours)."""
    steps_an_epoch: int = 4
    """Steps of an epoch (ours)."""


@dataclass(frozen=True)
class Episodes:
    """Episode t M + j is place j of step t."""

    n_steps: int
    per_step: int

    unit = "episodes"

    @property
    def units_per_step(self) -> int:
        return self.per_step

    @property
    def steps_per_epoch(self) -> int:
        return self.n_steps

    def epoch(self, epoch: int) -> Tensor:
        n = self.n_steps * self.per_step
        return torch.arange((epoch - 1) * n, epoch * n).view(self.n_steps, self.per_step)

    def named(self, units_U: Tensor) -> str:
        return f"the step's episodes are {enumerated(units_U.tolist())}"


class PrototypesLearner:
    """Gradients of one episode at a time, added in the order of the episodes, whoever made them."""

    def __init__(self, given: Given) -> None:
        self._given, self._settings = given, given.settings
        self.networks = Networks(given.backbone, {}).to(given.device)
        self._protocol = Protocol(n_way=self._settings.n_way, n_shot=1, n_query=2, split="base", seed=given.config.seed)
        self._sharpness, self.epochs_seen = 0.0, torch.zeros(())

    def start_epoch(self, epoch: int, units_TU: Tensor) -> None:
        self._sharpness = epoch * self._settings.sharpness
        self.epochs_seen = self.epochs_seen + 1

    def gradients(self, step: Step) -> dict[str, Tensor]:
        tasks = [self.task_gradients(int(unit)) for unit in step.units_U[step.mine]]
        of_tasks = gathered(torch.stack([flat for flat, _ in tasks]), self._given.team.size)
        mean = torch.zeros_like(of_tasks[0])
        for flat in of_tasks:
            mean += flat / len(of_tasks)
        for parameter, part in zip(self.networks.parameters(), unflattened(mean, self.networks), strict=True):
            parameter.grad = part
        return {name: torch.stack([watched[name] for _, watched in tasks]).mean() for name in ("loss", "accuracy")}

    def task_gradients(self, number: int) -> tuple[Tensor, dict[str, Tensor]]:
        base, n_way = self._given.base, self._settings.n_way
        episode = draw_episode(base.offsets, base.fingerprint, self._protocol, number)
        rows = np.concatenate([episode.support_ids.ravel(), episode.query_ids.ravel()])
        views = draw_views(len(rows), self._given.benchmark.augmentation, torch_generator(0, "episode views", number))
        features = self.networks(augmented(base.take(rows), self._given.benchmark, views))["features"]
        prototypes, queries = features[:n_way], features[n_way:]
        logits = -self._sharpness * torch.cdist(queries, prototypes).square()
        labels = torch.arange(n_way).repeat_interleave(2)
        loss = F.cross_entropy(logits, labels)
        parts = torch.autograd.grad(loss, list(self.networks.parameters()))
        flat = torch.cat([part.reshape(-1) for part in parts])
        return flat, {"loss": loss.detach(), "accuracy": accuracy(logits, labels)}

    def state(self) -> dict[str, Tensor]:
        return {"epochs_seen": self.epochs_seen}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.epochs_seen = state["epochs_seen"]


def gathered(mine: Tensor, n_workers: int) -> Sequence[Tensor]:
    """Return the rows of all workers, in the order of the tasks."""
    if n_workers == 1:
        return list(mine)
    parts = [torch.empty_like(mine) for _ in range(n_workers)]
    torch.distributed.all_gather(parts, mine)
    return list(torch.cat(parts))


def unflattened(flat: Tensor, networks: Networks) -> list[Tensor]:
    sizes = [parameter.numel() for parameter in networks.parameters()]
    return [part.view_as(p) for part, p in zip(flat.split(sizes), networks.parameters(), strict=True)]


def adam(networks: Networks, config) -> torch.optim.Optimizer:
    groups = [{"params": list(networks.parameters()), "lr_factor": 1.0}]
    return torch.optim.Adam(groups, lr=config.lr, weight_decay=config.weight_decay)


def create(given: Given) -> Parts:
    source = Episodes(given.settings.steps_an_epoch, given.config.batch)
    refuse_uneven(source.units_per_step, source.unit, given.team.size)
    return Parts(source=source, learner=PrototypesLearner(given), optimiser=adam)


@dataclass(frozen=True, kw_only=True)
class TenEpisodes:
    """Few-shot accuracy, told in other words."""

    plain: FewShotAccuracy

    settings = frozenset({"validation_n_way", "validation_n_shot"})
    measure = "ten episodes"
    among = "ten validation episodes"
    images = "ten validation episodes"

    def record(self) -> dict[str, object]:
        return {"measure": "ten episodes"}

    def scores(self, networks: Networks, device: torch.device) -> np.ndarray:
        return self.plain.scores(networks, device)


def ten_episodes(config, benchmark, class_names, table) -> TenEpisodes:
    return TenEpisodes(plain=by_benchmark(config, benchmark, class_names, table))


def recipe(benchmark: str) -> dict[str, object]:
    wide = {"n_way": 4} if benchmark == "characters" else {}
    return {"epochs": 2, "batch": 4, "lr": 1e-3, "weight_decay": 0.0, "schedule": "poly", **wide}


PROTOTYPES = ObjectiveDefinition(
    name="prototypes",
    summary="prototypes of whole episodes",
    settings=PrototypesSettings,
    recipe=recipe,
    without=("sampler", "momentum"),
    unit="episodes",
    any_workers=True,
    validation="prototypes_objective:ten_episodes",
    create="prototypes_objective:create",
)
