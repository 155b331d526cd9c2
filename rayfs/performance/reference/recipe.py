"""Label Hallucination in the plain style of the released codes.

Pillow and torchvision make every view, image by image, in a DataLoader; the frozen backbone passes over all base images
in every episode; tensors lie in memory as PyTorch puts them; every tensor is a parameter group; scikit-learn solves
with its defaults; every step reads its losses and its accuracy. Own code, by the papers and `LabelHallucSettings`.

Randomness is PyTorch's global one, as there, so that it wants a process of its own. B base images, V support views,
Q queries, N base images in all, K classes.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import transforms

from rayfs.backbones.registry import n_features
from rayfs.datasets.augmentation import Augmentation
from rayfs.datasets.image_table import ImageTable
from rayfs.engine.stages import stage
from rayfs.errors import InputError
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.method import Task
from rayfs.performance.reference.backbone import PlainDropBlock
from rayfs.performance.reference.images import as_pillow, loaded, make_transforms

EVALUATE_EVERY = 100
"""Steps between two looks at the queries, as in the released code."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What all episodes of the naive recipe share."""

    backbone: nn.Module
    """Frozen, in eval mode; `plain_copy` of the engine's."""
    base: ImageTable
    augmentation: Augmentation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device
    n_loaders: int
    """Processes of each DataLoader; 0: the main one loads."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceResult:
    """What a whole or a shortened episode gave."""

    logits: Tensor
    """(Q, K) of the queries."""
    losses: list[tuple[float, float]]
    """Base and support loss before each step."""


def solve_naively(
    task: Task, reference: Reference, config: LabelHallucSettings, n_batches: int | None = None
) -> ReferenceResult:
    """Solve one episode.

    Arguments:
        n_batches: label so many batches of base images only (the labels of the others are zero), and start no clock
            before the loaders' queues are full: for timings that are scaled up. None: an episode as it is.

    Raises:
        InputError: settings that the released recipe does not have.
    """
    refuse_variants(config)
    random_view, plain_view = make_transforms(
        reference.augmentation, reference.base.images.shape[1], reference.mean, reference.std
    )
    with stage("sampling"):
        images = [as_pillow(image) for image in task.support_images]
        support_x = torch.stack([random_view(image) for _ in range(config.support_views) for image in images])
        query_x = torch.stack([plain_view(as_pillow(image)) for image in task.query_images]).to(reference.device)
        labels = task.support_labels.repeat(config.step_views).to(reference.device)
        network, optimizer = naive_network(reference.backbone, task.n_way, config)
    with stage("support"):
        classifier = fit_classifier(reference, support_x, task.support_labels.repeat(config.support_views), config.c)
        if config.head_init == "logistic-regression":
            start_from(head_of(network), classifier)
    base_logits = naive_pseudo_labels(reference, classifier, plain_view, config.base_batch, n_batches)
    losses: list[tuple[float, float]] = []
    shortened = None if n_batches is None else "augmentation"
    with loaded(
        reference.base, random_view, config.base_batch, reference.n_loaders, shuffle=True, settled=shortened
    ) as batches:
        while len(losses) < config.steps:
            with stage("augmentation"):
                base_x, rows = next(batches)
                views = [random_view(image) for _ in range(config.step_views) for image in images]
                support_x = torch.stack(views).to(reference.device)
            losses.append(
                naive_step(
                    network, optimizer, base_x.to(reference.device), base_logits[rows], support_x, labels, config
                )
            )
            if len(losses) % EVALUATE_EVERY == 0:
                naive_query_logits(network, query_x)
    return ReferenceResult(logits=naive_query_logits(network, query_x), losses=losses)


def naive_step(
    network: nn.Sequential, optimizer: torch.optim.Optimizer, base_x: Tensor, base_logits: Tensor, support_x: Tensor,
    labels: Tensor, config: LabelHallucSettings,
) -> tuple[float, float]:  # fmt: skip
    """Take one step of (backbone, head) on base views (B, C, H, W) and support views (V, C, H, W).

    Returns:
        Base and support loss before it.
    """
    with stage("forward"):
        logits = network(torch.cat([base_x, support_x]))
        student, support = logits[: len(base_x)], logits[len(base_x) :]
        t = config.temperature
        divergence = F.kl_div(F.log_softmax(student / t, 1), F.softmax(base_logits / t, 1), reduction="sum")
        loss_base = divergence * t**2 / len(base_x)
        loss_support = F.cross_entropy(support, labels)
        loss = config.lambda_kl * loss_base + config.lambda_ce * loss_support
    with stage("backward"):
        optimizer.zero_grad()
        loss.backward()
    with stage("optimiser"):
        optimizer.step()
    with stage("forward"):
        (support.argmax(1) == labels).float().mean().item()  # the meters
        return loss_base.item(), loss_support.item()


def naive_network(
    backbone: nn.Module, n_way: int, config: LabelHallucSettings
) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """Return a copy of the plain backbone with a new head, in training mode, and SGD with a group for every tensor.

    With `first_conv="frozen"` the first convolution is in no group: it receives gradients that nobody applies.
    """
    body = copy.deepcopy(backbone).requires_grad_(True)
    if config.dropout == "off":
        for module in body.modules():
            if isinstance(module, nn.Dropout | PlainDropBlock):
                module.p = 0.0
    head = (UnitHead if config.normalize == "on" else nn.Linear)(n_features(body), n_way)
    network = nn.Sequential(body, head.to(next(body.parameters()).device)).train()
    first = next(module.weight for module in body.modules() if isinstance(module, nn.Conv2d))
    groups = [
        {"params": [parameter], "lr": config.lr}
        for parameter in body.parameters()
        if config.first_conv == "trained" or parameter is not first
    ]
    groups += [{"params": [parameter], "lr": config.head_lr} for parameter in head.parameters()]
    return network, torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)


def head_of(network: nn.Sequential) -> nn.Linear:
    """Return the head of (backbone, head)."""
    assert isinstance(network[1], nn.Linear)
    return network[1]


class UnitHead(nn.Linear):
    """A linear layer on features divided by their norm."""

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (N, K)."""
        return super().forward(unit_length(features))


def unit_length(features: Tensor) -> Tensor:
    """Divide features (N, D) by their norm."""
    return features / features.pow(2).sum(1, keepdim=True).pow(0.5)


def fit_classifier(reference: Reference, support_x: Tensor, labels: Tensor, c: float) -> Any:
    """Return scikit-learn's logistic regression of the support's frozen features."""
    from sklearn.linear_model import LogisticRegression

    with torch.no_grad():
        features = unit_length(reference.backbone(support_x.to(reference.device))).cpu().numpy()
    return LogisticRegression(C=c, solver="lbfgs", max_iter=1000).fit(features, labels.numpy())


def start_from(head: nn.Linear, classifier: Any) -> None:
    """Copy a classifier of three or more classes into the head."""
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(classifier.coef_))
        head.bias.copy_(torch.from_numpy(classifier.intercept_))


def naive_pseudo_labels(
    reference: Reference, classifier: Any, plain_view: transforms.Compose, batch: int, n_batches: int | None
) -> Tensor:
    """Return the classifier's logits (N, K) of all base images, from one pass of the frozen backbone."""
    logits = torch.zeros(len(reference.base), len(classifier.classes_))
    n_all = math.ceil(len(reference.base) / batch)
    shortened = None if n_batches is None else "pseudo-labels"
    with (
        torch.no_grad(),
        loaded(reference.base, plain_view, batch, reference.n_loaders, shuffle=False, settled=shortened) as batches,
    ):
        for _ in range(n_all if n_batches is None else min(n_batches, n_all)):
            with stage("pseudo-labels"):
                images, rows = next(batches)
                features = unit_length(reference.backbone(images.to(reference.device))).cpu().numpy()
                scores = np.asarray(classifier.decision_function(features), dtype=np.float32)
                logits[rows] = torch.from_numpy(scores)
    return logits.to(reference.device)


def naive_query_logits(network: nn.Module, query_x: Tensor) -> Tensor:
    """Return the network's logits (Q, K) in eval mode, and put it back into training mode."""
    with stage("query"), torch.no_grad():
        network.eval()
        logits: Tensor = network(query_x).cpu()
        network.train()
    return logits


def refuse_variants(config: LabelHallucSettings) -> None:
    """Refuse settings that the released recipe does not have."""
    released = LabelHallucSettings(
        steps=config.steps,
        support_views=config.support_views,
        step_views=config.step_views,
        base_batch=config.base_batch,
    )
    free = {"lambda_ce", "lambda_kl", "lr", "head_lr", "momentum", "weight_decay", "c", "temperature", "first_conv"}
    free |= {"head_init", "dropout", "normalize"}
    for name in sorted(set(vars(released)) - free):
        if getattr(config, name) != getattr(released, name):
            raise InputError(f"{name} is {getattr(config, name)}; the naive recipe has {getattr(released, name)} only")
