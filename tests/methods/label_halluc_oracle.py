"""Label Hallucination once more, slowly: from the equations, in float64.

Loops over images and classes, solves the logistic regression by Newton's method and keeps its own momentum buffers. It
shares with the code under test only the backbone's forward pass, the drawing and applying of view parameters (image by
image here), and the named random streams.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor, nn

from rayfs.backbones import regularisation
from rayfs.benchmarks.augmentation import ViewParameters, apply_views, draw_views
from rayfs.methods.method import Task, World
from rayfs.methods.recipes import LabelHallucConfig
from rayfs.randomness import EpisodeRandomness


@dataclass
class Trace:
    """What one finetuning did; tensors by name, momentum buffers of trained parameters only."""

    pseudo_logits: list[Tensor] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)
    momentum: dict[str, Tensor] = field(default_factory=dict)


def repeated(task: Task, n_views: int) -> tuple[list[Tensor], list[int]]:
    """Return the support images and labels, the whole set `n_views` times over."""
    images = [image for _ in range(n_views) for image in task.support_images]
    return images, [int(label) for _ in range(n_views) for label in task.support_labels]


def oracle(
    task: Task, world: World, config: LabelHallucConfig, randomness: EpisodeRandomness, first_convolution: str
) -> tuple[Trace, Tensor]:
    """Solve by the equations, in float64. Returns the trace and the logits of the queries."""
    frozen = double_copy(world.backbone)
    fitted, fitted_labels = repeated(task, config.support_views)
    first_views = naive_views(fitted, world, randomness.generator("support views"))
    teacher = newton_logistic_regression(unit_rows(frozen(first_views)).detach().numpy(), fitted_labels, config.c)
    support, labels = repeated(task, config.step_views)
    student = double_copy(world.backbone).train()
    masks = randomness.generator("dropout")
    for module in student.modules():
        if isinstance(module, regularisation.Dropout | regularisation.DropBlock):
            module.generator = masks
            module.drop_rate = 0.0 if config.dropout == "off" else module.drop_rate
    weights, bias = naive_head(task.n_way, student.n_features, randomness)
    if config.head_init == "logistic-regression":
        weights, bias = (torch.from_numpy(array.copy()) for array in teacher)

    trained = {
        name: (parameter, config.lr)
        for name, parameter in prefixed(student.named_parameters()).items()
        if config.first_conv == "trained" or not name.startswith(f"backbone.{first_convolution}")
    }
    trained |= {"head.weight": (weights, config.head_lr), "head.bias": (bias, config.head_lr)}
    trace, views, rows = (
        Trace(),
        randomness.generator("finetuning views"),
        naive_rows(len(world.bank.table), config, randomness),
    )
    for parameter, _ in trained.values():
        parameter.requires_grad_(True)
    for _ in range(config.steps):
        images = [torch.from_numpy(np.array(world.bank.table.images[row])) for row in next(rows)]
        base_x, support_x = naive_views(images, world, views), naive_views(support, world, views)
        seen = base_x if config.pseudo_label_view == "augmented" else naive_plain(images, world)
        z = unit_rows(frozen(seen)).detach().numpy()
        pseudo_logits = torch.tensor([[w @ z_i + b for w, b in zip(*teacher, strict=True)] for z_i in z])
        outputs = naive_forward(student, weights, bias, base_x, support_x, config)
        kl = naive_distillation(outputs[0], pseudo_logits, config.temperature)
        ce = naive_cross_entropy(outputs[1], torch.tensor(labels))
        objective = config.lambda_kl * kl + config.lambda_ce * ce
        gradients = torch.autograd.grad(objective, [parameter for parameter, _ in trained.values()])
        for (name, (parameter, rate)), gradient in zip(trained.items(), gradients, strict=True):
            decayed = gradient + config.weight_decay * parameter.detach()
            earlier = trace.momentum.get(name, torch.zeros_like(decayed))
            trace.momentum[name] = config.momentum * earlier + decayed
            parameter.data -= rate * trace.momentum[name]
        trace.pseudo_logits.append(pseudo_logits)
        trace.losses.append([kl.item(), ce.item()])
    trace.state = {name: tensor.detach() for name, tensor in prefixed(student.state_dict().items()).items()}
    trace.state |= {"head.weight": weights.detach(), "head.bias": bias.detach()}
    student.eval()
    features = student(naive_plain(list(task.query_images), world))
    return trace, naive_logits(features, weights, bias, config).detach()


def prefixed(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {f"backbone.{name}": tensor for name, tensor in named}


def double_copy(backbone: nn.Module) -> nn.Module:
    return copy.deepcopy(backbone).to(memory_format=torch.contiguous_format).double().eval()


def naive_rows(n_rows: int, config: LabelHallucConfig, randomness: EpisodeRandomness) -> Iterator[list[int]]:
    """Yield lists of base rows: a new shuffle each pass, no row twice in a pass, no short batch."""
    generator = randomness.generator("base rows")
    while True:
        left = torch.randperm(n_rows, generator=generator).tolist()
        while len(left) >= config.base_batch:
            yield [left.pop(0) for _ in range(config.base_batch)]


def naive_views(images: list[Tensor], world: World, generator: torch.Generator) -> Tensor:
    """Replay the drawn parameters, one image at a time."""
    drawn = draw_views(len(images), world.augmentation, generator)
    views = []
    for i, image in enumerate(images):
        one = ViewParameters(**{part.name: getattr(drawn, part.name)[i : i + 1] for part in fields(ViewParameters)})
        views.append(standardise(apply_views(image[None], world.augmentation, one)[0], world))
    return torch.stack(views)


def naive_plain(images: list[Tensor], world: World) -> Tensor:
    return torch.stack([standardise(image.permute(2, 0, 1).double() / 255, world) for image in images])


def standardise(x: Tensor, world: World) -> Tensor:
    planes = [(plane.double() - mean) / std for plane, mean, std in zip(x, world.mean, world.std, strict=True)]
    return torch.stack(planes).contiguous()


def unit_rows(features: Tensor) -> Tensor:
    return torch.stack([z / z.pow(2).sum().sqrt() for z in features])


def naive_head(n_way: int, n_features: int, randomness: EpisodeRandomness) -> tuple[Tensor, Tensor]:
    generator, bound = randomness.generator("head"), 1 / math.sqrt(n_features)
    weights = (2 * torch.rand(n_way, n_features, generator=generator) - 1) * bound
    bias = (2 * torch.rand(n_way, generator=generator) - 1) * bound
    return weights.double(), bias.double()


def naive_logits(features: Tensor, weights: Tensor, bias: Tensor, config: LabelHallucConfig) -> Tensor:
    z = unit_rows(features) if config.normalize == "on" else features
    return torch.stack([torch.stack([(w * z_i).sum() + b for w, b in zip(weights, bias, strict=True)]) for z_i in z])


def naive_forward(
    student: nn.Module, weights: Tensor, bias: Tensor, base_x: Tensor, support_x: Tensor, config: LabelHallucConfig
) -> tuple[Tensor, Tensor]:
    """Return the logits of base and support images; with split batch norm the support leaves no running statistics."""
    if config.batch_norm == "joint":
        features = student(torch.cat([base_x, support_x]))
        base, support = features[: len(base_x)], features[len(base_x) :]
    else:
        base = student(base_x)
        kept = {name: buffer.clone() for name, buffer in student.named_buffers() if "n_forwards" not in name}
        support = student(support_x)
        for name, buffer in student.named_buffers():
            if name in kept:
                buffer.data.copy_(kept[name])  # .data: autograd must not see it
    return naive_logits(base, weights, bias, config), naive_logits(support, weights, bias, config)


def softmax(row: Tensor) -> Tensor:
    powers = torch.stack([value.exp() for value in row])
    return powers / powers.sum()


def naive_distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        for p_k, q_k in zip(softmax(t / temperature), softmax(s / temperature), strict=True):
            total = total + p_k * (p_k / q_k).log()
    return temperature**2 / len(student) * total


def naive_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return sum(-softmax(row)[y].log() for row, y in zip(logits, labels, strict=True)) / len(labels)


def newton_logistic_regression(z: np.ndarray, labels: list[int], c: float) -> tuple[np.ndarray, np.ndarray]:
    """Minimise `1/2 ||W||² + c Σ CE` by Newton's method with the full Hessian; b is fixed by a zero sum."""
    n_classes, n_features = max(labels) + 1, z.shape[1]
    rows = np.hstack([z, np.ones((len(z), 1))])
    penalty = np.diag(np.tile([1.0] * n_features + [0.0], n_classes))
    centre = np.kron(np.ones((n_classes, n_classes)), np.diag([0.0] * n_features + [1.0]))
    theta = np.zeros(n_classes * (n_features + 1))
    for _ in range(50):
        gradient, hessian = penalty @ theta, penalty + centre
        for x, y in zip(rows, labels, strict=True):
            scores = theta.reshape(n_classes, -1) @ x
            p = np.exp(scores - scores.max())
            p /= p.sum()
            gradient = gradient + c * np.kron(p - np.eye(n_classes)[y], x)
            hessian = hessian + c * np.kron(np.diag(p) - np.outer(p, p), np.outer(x, x))
        theta = theta - np.linalg.solve(hessian, gradient + centre @ theta)
        if np.abs(gradient).max() < 1e-11:
            break
    solved = theta.reshape(n_classes, -1)
    return solved[:, :-1], solved[:, -1]
