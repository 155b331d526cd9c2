"""The loop of every method that finetunes the whole network: what it starts from, its batches, its optimiser.

A method gives the loop what one step does. B base images and V support views a step, D features, K classes.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayfs.backbones.heads import LinearHead
from rayfs.backbones.registry import blocks, n_features
from rayfs.backbones.regularisation import reset_ramp, set_drop_rate, set_generator
from rayfs.backbones.split import split
from rayfs.engine.stages import stage
from rayfs.methods.base_rows import RowSampler
from rayfs.methods.configs import BaseFinetuneConfig, FinetuneConfig
from rayfs.methods.frozen import tile_support
from rayfs.methods.joint import joint_rows, recognise_jointly
from rayfs.methods.method import Solution, Task, World
from rayfs.randomness import EpisodeRandomness


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """What one step sees."""

    support_x: Tensor
    """(V, C, H, W)."""
    support_labels: Tensor
    """(V,) int64."""
    base_rows: np.ndarray
    """(B,) int64 rows of the base table; empty for methods without base images."""
    base_x: Tensor
    """(B, C, H, W), a view of each.

    With `frozen_views` both hold activations of views behind the frozen blocks, and the network that sees them is the
    rest.
    """


Step = Callable[[nn.Sequential, torch.optim.Optimizer, Batch], Tensor]
"""Takes one step; returns (2,) base and support loss before it, detached, on the device."""

BaseLoss = Callable[[Batch, Tensor, nn.Module], Tensor]
"""Loss of base images, without its weight, from the batch, the network's features (B, D) of them, and the head."""


def finetune(
    task: Task,
    world: World,
    randomness: EpisodeRandomness,
    config: FinetuneConfig,
    network: nn.Sequential,
    base_rows: np.ndarray,
    base_batch: int,
    take_step: Step,
) -> Solution:
    """Finetune `network` (backbone, head) by `take_step` and return its logits of the queries, in eval mode.

    Arguments:
        base_rows: (n,) the base images to draw from; empty for none.
        base_batch: B; fewer where there are fewer base images.
    """
    trained_part = network
    if config.frozen_views:
        trained_part = nn.Sequential(split(network[0], config.frozen_blocks)[1], network[1])
    joint = joint_rows(world.bank.table, config.joint_queries, randomness) if config.joint_queries else None
    if joint is not None:
        base_rows = np.setdiff1d(base_rows, joint.all)
    optimizer = make_optimizer(network, config)
    rates = [group["lr"] for group in optimizer.param_groups]
    losses: list[Tensor] = []
    for batch in _batches(task, world, randomness, config, base_rows, min(base_batch, len(base_rows))):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * rate_factor(config.schedule, len(losses), config.steps)
        losses.append(take_step(trained_part, optimizer, batch))
        if len(losses) == config.steps or no_longer_falls(losses, config.early_stop):
            break
    loss_base, loss_support = losses[-1].tolist()
    network.eval()
    with stage("query"), torch.no_grad():
        logits = network(world.plain(task.query_images)).float().cpu()
    return Solution(
        logits=logits, steps=len(losses), loss_base=loss_base if len(base_rows) else None, loss_support=loss_support,
        joint=None if joint is None else recognise_jointly(network[0], task, world, joint),
    )  # fmt: skip


def _batches(
    task: Task, world: World, randomness: EpisodeRandomness, config: FinetuneConfig, base_rows: np.ndarray, b: int
) -> Iterator[Batch]:
    """Yield batches without end: views of the support set and, where there are base images, of some of them."""
    images, labels = tile_support(task, config.step_views)
    images, labels = images.to(world.device), labels.to(world.device)
    views = _kept_views if config.frozen_views else _fresh_views
    support_views, base_views = views(images, world, randomness, config)
    base_sampler = RowSampler(len(base_rows), b, randomness.generator("base rows")) if b else None
    n_support = min(config.support_batch or len(labels), len(labels))
    support_sampler = RowSampler(len(labels), n_support, randomness.generator("support rows"))
    base_x = torch.empty(0, device=world.device)
    rows = base_rows[:0]
    while True:
        if base_sampler is not None:
            rows = base_rows[base_sampler.draw().numpy()]
            with stage("augmentation"):
                base_x = base_views(rows)
        chosen = slice(None) if n_support == len(labels) else support_sampler.draw().to(world.device)
        with stage("augmentation"):
            support_x = support_views(chosen)
        yield Batch(support_x=support_x, support_labels=labels[chosen], base_rows=rows, base_x=base_x)


Views = tuple[Callable[[slice | Tensor], Tensor], Callable[[np.ndarray], Tensor]]
"""Give the inputs of a step: of some of the tiled support images, and of base rows."""


def _fresh_views(images: Tensor, world: World, randomness: EpisodeRandomness, config: FinetuneConfig) -> Views:
    """Return what makes a new view of each image whenever it is asked."""
    generator = randomness.generator("finetuning views", world.device)
    return (
        lambda chosen: world.views(images[chosen], generator),
        lambda rows: world.views(world.bank.table.take(rows), generator),
    )


@torch.no_grad()
def _kept_views(images: Tensor, world: World, randomness: EpisodeRandomness, config: FinetuneConfig) -> Views:
    """Return what draws one of the V kept views of each image: activations behind the frozen blocks.

    Those of the support set are computed here, once an episode; those of base images are in the world.
    """
    generator = randomness.generator("finetuning views", world.device)
    frozen, _ = split(world.backbone, config.frozen_blocks)
    support = torch.stack(
        [forward(frozen, world.views(images, generator), config.precision) for _ in range(config.frozen_views)]
    )
    draws = randomness.generator("kept views")

    def drawn(n: int) -> Tensor:
        return torch.randint(config.frozen_views, (n,), generator=draws)

    def support_views(chosen: slice | Tensor) -> Tensor:
        places = torch.arange(len(images), device=world.device)[chosen]
        return support[drawn(len(places)).to(world.device), places]

    def base_views(rows: np.ndarray) -> Tensor:
        kept = world.activations[config.frozen_blocks, config.frozen_views]
        return kept.take_views(rows, drawn(len(rows)).numpy()).to(world.device)

    return support_views, base_views


def make_network(
    task: Task,
    world: World,
    randomness: EpisodeRandomness,
    config: FinetuneConfig,
    classifier: tuple[Tensor, Tensor] | None,
) -> nn.Sequential:
    """Return a copy of the backbone with a new head, in training mode but for its frozen blocks.

    Arguments:
        classifier: W (K, D) and b (K,) that the head starts from where the settings say so.
    """
    backbone = copy.deepcopy(world.backbone)
    reset_ramp(backbone)
    if config.dropout == "off":
        set_drop_rate(backbone, 0.0)
    set_generator(backbone, randomness.generator("dropout", world.device))
    head = LinearHead(
        n_features(backbone), task.n_way, normalize=config.normalize == "on", generator=randomness.generator("head")
    ).to(world.device)
    if config.head_init == "logistic-regression":
        assert classifier is not None, "a head that starts from a classifier needs one"
        with torch.no_grad():
            head.linear.weight.copy_(classifier[0])
            head.linear.bias.copy_(classifier[1])
    return trained(nn.Sequential(backbone, head), config)


def trained(network: nn.Sequential, config: FinetuneConfig) -> nn.Sequential:
    """Return (backbone, head) in training mode, with what the settings freeze frozen.

    With `first_conv="frozen"` the backbone's first convolution is left out, as in the released code: it receives
    gradients that nobody applies, so here it takes none.
    """
    network.requires_grad_(True).train()
    backbone = network[0]
    if config.first_conv == "frozen":
        next(module for module in backbone.modules() if isinstance(module, nn.Conv2d)).requires_grad_(False)
    for block in blocks(backbone)[: config.frozen_blocks]:
        block.requires_grad_(False).eval()
    return network


def make_optimizer(network: nn.Sequential, config: FinetuneConfig) -> torch.optim.SGD:
    """Return SGD with one learning rate for what is trained of the backbone and one for the head."""
    backbone, head = network
    body = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    groups = [{"params": body, "lr": config.lr}, {"params": list(head.parameters()), "lr": config.head_lr}]
    return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)


def rate_factor(schedule: str, step: int, n_steps: int) -> float:
    """Return what the learning rates of step 0 .. n_steps - 1 are multiplied by; step n_steps would have 0."""
    match schedule:
        case "linear":
            return 1 - step / n_steps
        case "cosine":
            return (1 + math.cos(math.pi * step / n_steps)) / 2
    return 1.0


def no_longer_falls(losses: list[Tensor], window: int) -> bool:
    """Tell, at the end of every `window` steps, whether their mean total loss is not below that of the window before.

    Reads the device only then.
    """
    if not window or len(losses) % window or len(losses) < 2 * window:
        return False
    before, after = torch.stack(losses[-2 * window :]).sum(1).view(2, window).mean(1).tolist()
    return after >= before


def step(
    network: nn.Sequential,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: FinetuneConfig,
    base_loss: BaseLoss | None = None,
    base_weight: float = 1.0,
) -> Tensor:
    """Take one step on `base_weight base_loss + lambda_ce CE(support)` (Label Hallucination eq. 3), or without base.

    Returns:
        (2,) base loss, without its weight, and CE before the step, detached, on the device.
    """
    with stage("forward"):
        loss_base, loss_support = _losses(network, batch, config, base_loss)
        objective = config.lambda_ce * loss_support
        if base_loss is not None:
            objective = base_weight * loss_base + objective
    with stage("backward"):
        optimizer.zero_grad(set_to_none=True)
        objective.backward()
    with stage("optimiser"):
        optimizer.step()
    return torch.stack([loss_base.detach(), loss_support.detach()])


def _losses(
    network: nn.Sequential, batch: Batch, config: FinetuneConfig, base_loss: BaseLoss | None
) -> tuple[Tensor, Tensor]:
    """Return the loss on base images, 0 without any, and on the support."""
    backbone, head = network
    if base_loss is None:
        loss_support = F.cross_entropy(head(forward(backbone, batch.support_x, config.precision)), batch.support_labels)
        return torch.zeros_like(loss_support), loss_support
    assert isinstance(config, BaseFinetuneConfig), "only methods with base images have a loss on them"
    base_features, support_features = joint_features(backbone, batch, config)
    loss_base = base_loss(batch, base_features, head)
    return loss_base, F.cross_entropy(head(support_features), batch.support_labels)


def joint_features(backbone: nn.Module, batch: Batch, config: BaseFinetuneConfig) -> tuple[Tensor, Tensor]:
    """Return the features (B, D) of base images and (V, D) of support views, batch statistics joint or split."""
    if config.batch_norm == "joint":
        n = [len(batch.base_x), len(batch.support_x)]
        base, support = forward(backbone, torch.cat([batch.base_x, batch.support_x]), config.precision).split(n)
        return base, support
    base = forward(backbone, batch.base_x, config.precision)
    with running_statistics_kept(backbone):
        return base, forward(backbone, batch.support_x, config.precision)


def forward(backbone: nn.Module, images: Tensor, precision: str) -> Tensor:
    """Return the features (n, D) float32 of (n, C, H, W), computed under bf16 autocast where `precision` says so."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return backbone(images).float()


@contextmanager
def running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Let batch norm use batch statistics inside the block without moving its running ones or their batch counter."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats and m.training]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
