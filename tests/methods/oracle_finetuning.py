"""Finetuning of the whole network once more, slowly: in float64, with its own momentum buffers, rates and batches.

It shares with the code under test only the backbone's forward pass, the drawing and applying of view parameters (image
by image here), and the named random streams. What one step of a method is stands in the file of its oracle.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from oracle_arithmetic import (
    arc_logits,
    linear_logits,
    naive_plain,
    naive_views,
    newton_logistic_regression,
    repeated,
    standardise,
    unit_rows,
)
from oracle_base_rows import naive_passes
from torch import Tensor, nn

from rayfs.backbones import regularisation
from rayfs.datasets.augmentation import apply_views, draw_views
from rayfs.methods.assoalign import AssoAlignSettings
from rayfs.methods.finetuning.settings import FinetuneSettings
from rayfs.methods.method import Task, World
from rayfs.randomness import EpisodeRandomness, torch_generator

VIEWS_SEED = 21
"""Of the kept views in the world of the tests."""

BLOCKS = {"conv4": [f"layer{i}." for i in (1, 2, 3, 4)], "resnet12": [f"layer{i}." for i in (1, 2, 3, 4)]}
FIRST_CONVOLUTION = {"conv4": "layer1.0.", "resnet12": "layer1.0.conv1."}
Gradients = dict[str, Tensor]
Teacher = tuple[np.ndarray, np.ndarray]


@dataclass
class Trace:
    """What one finetuning did; tensors by name, momentum buffers of trained parameters only."""

    base_rows: list[list[int]] = field(default_factory=list)
    pseudo_logits: list[Tensor] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)
    momentum: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Episode:
    """What an oracle is asked to solve, and the pieces that every oracle starts from."""

    task: Task
    world: World
    config: FinetuneSettings
    randomness: EpisodeRandomness
    backbone_name: str

    def __post_init__(self) -> None:
        self.frozen = double_copy(self.world.backbone)

    def teacher(self) -> Teacher:
        """Return the logistic regression of the support views, `W` and `b`."""
        images, labels = repeated(self.task, self.config.support_views)
        views = naive_views(images, self.world, self.randomness.generator("support views"))
        return newton_logistic_regression(unit_rows(self.frozen(views)).detach().numpy(), labels, self.config.c)

    def hallucinate(self, teacher: Teacher, inputs: Tensor) -> Tensor:
        """Return the teacher's logits of network inputs, one image and class at a time."""
        z = unit_rows(self.frozen(inputs)).detach().numpy()
        return torch.tensor([[w @ z_i + b for w, b in zip(*teacher, strict=True)] for z_i in z])

    def base_images(self, rows: list[int]) -> list[Tensor]:
        return [torch.from_numpy(np.array(self.world.bank.table.images[row])) for row in rows]


@dataclass
class Student:
    """The network that is finetuned, what of it is trained, and its momentum buffers."""

    config: FinetuneSettings
    backbone: nn.Module
    weights: Tensor
    bias: Tensor
    trained: dict[str, Tensor]
    momentum: dict[str, Tensor] = field(default_factory=dict)
    rate_factor: float = 1.0

    def logits(self, features: Tensor, labels: list[int] | None = None) -> Tensor:
        """Return the head's logits, with the margin of arcMax where there are labels."""
        config = self.config
        if isinstance(config, AssoAlignSettings) and config.classifier_loss == "arcmax":
            return arc_logits(features, self.weights, config.arc_scale, config.arc_margin, labels)
        return linear_logits(unit_rows(features) if config.normalize == "on" else features, self.weights, self.bias)

    def gradients(self, objective: Tensor, part: str = "") -> Gradients:
        """Return the gradients of what is trained in `part` ("backbone.", "head." or all)."""
        names = [name for name in self.trained if name.startswith(part)]
        found = torch.autograd.grad(objective, [self.trained[name] for name in names], retain_graph=True)
        return dict(zip(names, found, strict=True))

    def descend(self, gradients: Gradients) -> None:
        """Move what has a gradient: `v <- μ v + g + λ θ`, `θ <- θ - rate v`."""
        for name, gradient in gradients.items():
            parameter = self.trained[name]
            rate = self.config.head_lr if name.startswith("head.") else self.config.lr
            decayed = gradient + self.config.weight_decay * parameter.detach()
            earlier = self.momentum.get(name, torch.zeros_like(decayed))
            self.momentum[name] = self.config.momentum * earlier + decayed
            parameter.data -= self.rate_factor * rate * self.momentum[name]


@dataclass
class Batch:
    rows: list[int]
    base_x: Tensor
    support_x: Tensor
    labels: list[int]


OneStep = Callable[[Student, Batch], list[float]]
"""Moves the student; returns its losses on base images and on the support before that."""


def finetuned(
    episode: Episode, teacher: Teacher | None, rows: list[int], base_batch: int, one_step: OneStep
) -> tuple[Trace, Tensor]:
    """Return the trace of the steps, and the logits of the queries after them."""
    config, world, trace = episode.config, episode.world, Trace()
    student = make_student(episode, teacher)
    for batch in batches(episode, rows, base_batch):
        student.rate_factor = rate_factor(config.schedule, len(trace.losses), config.steps)
        trace.losses.append(one_step(student, batch))
        trace.base_rows.append(batch.rows)
        if len(trace.losses) == config.steps or stalled([sum(pair) for pair in trace.losses], config.early_stop):
            break
    named = student.backbone.state_dict() | {}
    trace.state = {f"backbone.{name}": tensor.detach() for name, tensor in named.items()}
    trace.state |= {name: tensor.detach() for name, tensor in student.trained.items() if name.startswith("head.")}
    trace.momentum = student.momentum
    student.backbone.eval()
    features = student.backbone(naive_plain(list(episode.task.query_images), world))
    return trace, student.logits(features).detach()


def make_student(episode: Episode, teacher: Teacher | None) -> Student:
    """Return a copy of the backbone with a new head, in training mode but for frozen blocks."""
    config, randomness = episode.config, episode.randomness
    backbone = double_copy(episode.world.backbone).train()
    masks = randomness.generator("dropout")
    for module in backbone.modules():
        if isinstance(module, regularisation.Dropout | regularisation.DropBlock):
            module.generator = masks
            module.drop_rate = 0.0 if config.dropout == "off" else module.drop_rate
    frozen = BLOCKS[episode.backbone_name][: config.frozen_blocks]
    for prefix in frozen:
        backbone.get_submodule(prefix.rstrip(".")).eval()
    if config.first_conv == "frozen":
        frozen = [*frozen, FIRST_CONVOLUTION[episode.backbone_name]]
    weights, bias = naive_head(episode.task.n_way, backbone.n_features, randomness)
    if config.head_init == "logistic-regression":
        weights, bias = (torch.from_numpy(array.copy()) for array in teacher)
    trained = {
        f"backbone.{name}": parameter
        for name, parameter in backbone.named_parameters()
        if not any(name.startswith(prefix) for prefix in frozen)
    }
    trained["head.weight"] = weights
    if not (isinstance(config, AssoAlignSettings) and config.classifier_loss == "arcmax"):
        trained["head.bias"] = bias
    for parameter in trained.values():
        parameter.requires_grad_(True)
    return Student(config, backbone, weights, bias, trained)


def batches(episode: Episode, rows: list[int], base_batch: int) -> Iterator[Batch]:
    """Yield what each step sees; base views are drawn before those of the support."""
    config, world, randomness = episode.config, episode.world, episode.randomness
    images, labels = repeated(episode.task, config.step_views)
    base_batch = min(base_batch, len(rows))
    base_passes = naive_passes(rows, base_batch, randomness.generator("base rows")) if base_batch else None
    numbers = list(range(len(images)))
    support_passes = naive_passes(numbers, config.support_batch or 1, randomness.generator("support rows"))
    views = randomness.generator("finetuning views")
    kept = [naive_views(images, world, views) for _ in range(config.frozen_views)]
    draws = randomness.generator("kept views")
    while True:
        base = next(base_passes) if base_passes else []
        if base and config.frozen_views:
            numbers_of_views = torch.randint(config.frozen_views, (len(base),), generator=draws).tolist()
            base_x = torch.stack([kept_view(world, *pair) for pair in zip(base, numbers_of_views, strict=True)])
        else:
            base_x = naive_views(episode.base_images(base), world, views) if base else torch.empty(0)
        chosen = numbers if config.support_batch is None else next(support_passes)
        if config.frozen_views:
            numbers_of_views = torch.randint(config.frozen_views, (len(chosen),), generator=draws).tolist()
            support_x = torch.stack([kept[view][i] for i, view in zip(chosen, numbers_of_views, strict=True)])
        else:
            support_x = naive_views([images[i] for i in chosen], world, views)
        yield Batch(base, base_x, support_x, [labels[i] for i in chosen])


def kept_view(world: World, row: int, view: int) -> Tensor:
    """Return the network's input of one kept view of a base image: as drawn for all 256 rows of its range."""
    drawn = draw_views(256, world.augmentation, torch_generator(VIEWS_SEED, f"support view {view}", row // 256))
    image = torch.from_numpy(np.array(world.bank.table.images[row]))[None]
    return standardise(apply_views(image, world.augmentation, drawn.part(slice(row % 256, row % 256 + 1)))[0], world)


def rate_factor(schedule: str, t: int, n_steps: int) -> float:
    """Return the share of the learning rates at step t."""
    if schedule == "linear":
        return (n_steps - t) / n_steps
    return math.cos(math.pi * t / n_steps / 2) ** 2 if schedule == "cosine" else 1.0


def stalled(losses: list[float], window: int) -> bool:
    """Tell whether the last whole window, just over, has no lower mean than the one before."""
    if window == 0 or len(losses) < 2 * window or len(losses) % window != 0:
        return False
    return sum(losses[-window:]) >= sum(losses[-2 * window : -window])


def forward_both(student: Student, batch: Batch, batch_norm: str) -> tuple[Tensor, Tensor]:
    """Return the features of base and support images; split, the support leaves no running statistics."""
    backbone = student.backbone
    if batch_norm == "joint":
        features = backbone(torch.cat([batch.base_x, batch.support_x]))
        return features[: len(batch.base_x)], features[len(batch.base_x) :]
    base = backbone(batch.base_x)
    kept = {name: buffer.clone() for name, buffer in backbone.named_buffers() if "n_forwards" not in name}
    support = backbone(batch.support_x)
    for name, buffer in backbone.named_buffers():
        if name in kept:
            buffer.data.copy_(kept[name])  # .data: autograd must not see it
    return base, support


def weighted_sum(*parts: tuple[float, Gradients]) -> Gradients:
    """Return the gradients of a weighted sum of objectives; one that a parameter is not in counts 0."""
    names = {name for _, gradients in parts for name in gradients}
    return {
        name: sum(weight * gradients[name] for weight, gradients in parts if name in gradients)
        for name in sorted(names)
    }


def naive_head(n_way: int, n_features: int, randomness: EpisodeRandomness) -> tuple[Tensor, Tensor]:
    generator, bound = randomness.generator("head"), 1 / math.sqrt(n_features)
    weights = (2 * torch.rand(n_way, n_features, generator=generator) - 1) * bound
    bias = (2 * torch.rand(n_way, generator=generator) - 1) * bound
    return weights.double(), bias.double()


def double_copy(backbone: nn.Module) -> nn.Module:
    return copy.deepcopy(backbone).to(memory_format=torch.contiguous_format).double().eval()
