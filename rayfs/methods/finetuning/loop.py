"""The loop of every method that finetunes the whole network: what it starts from, its batches, its optimiser.

A method gives the loop what one step does. B base images and V support views a step, D features, K classes.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayfs.backbones.heads import LinearHead
from rayfs.backbones.registry import blocks, n_features
from rayfs.backbones.regularisation import generators, reset_ramp, set_drop_rate, set_generator
from rayfs.backbones.split import split
from rayfs.engine.repeated_step import RepeatedStep, replayable
from rayfs.engine.stages import stage
from rayfs.methods.finetuning.batches import Batch, Batches, forward
from rayfs.methods.finetuning.settings import BaseFinetuneSettings, FinetuneSettings
from rayfs.methods.joint import joint_rows, recognise_jointly
from rayfs.methods.method import Solution, Task, World
from rayfs.randomness import EpisodeRandomness

Step = Callable[[nn.Sequential, torch.optim.Optimizer, Batch], Tensor]
"""Takes one step; returns (2,) base and support loss before it, detached, on the device."""

BaseLoss = Callable[[Batch, Tensor, nn.Module], Tensor]
"""Loss of base images, without its weight, from the batch, the network's features (B, D) of them, and the head."""


COMPILED_VARIANTS = 64
"""Shapes and modes of a part of the network that a worker compiles."""


def finetune(
    task: Task,
    world: World,
    randomness: EpisodeRandomness,
    settings: FinetuneSettings,
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
    if settings.frozen_views:
        trained_part = nn.Sequential(split(network[0], settings.frozen_blocks)[1], network[1])
    joint = joint_rows(world.bank.table, settings.joint_queries, randomness) if settings.joint_queries else None
    if joint is not None:
        base_rows = np.setdiff1d(base_rows, joint.all)
    if "compiled" in settings.execution:
        trained_part = nn.Sequential(compiled(trained_part[0]), trained_part[1])
    optimizer = make_optimizer(network, settings)
    captured = "graph" in settings.execution
    with replayable(world.device, captured):
        batches = Batches(task, world, randomness, settings, base_rows, min(base_batch, len(base_rows)))
        repeated = RepeatedStep(
            lambda: take_step(trained_part, optimizer, batches.read()), world.device,
            [batches.generator, *generators(network)], captured,
        )  # fmt: skip
        losses = take_steps(repeated, batches, optimizer, settings)
        loss_base, loss_support = losses[-1].tolist()
        network.eval()
        with stage("query"), torch.no_grad():
            logits = network(world.plain(task.query_images)).float().cpu()
    return Solution(
        logits=logits, steps=len(losses), loss_base=loss_base if len(base_rows) else None, loss_support=loss_support,
        joint=None if joint is None else recognise_jointly(network[0], task, world, joint),
    )  # fmt: skip


def take_steps(
    repeated: RepeatedStep, batches: Batches, optimizer: torch.optim.Optimizer, settings: FinetuneSettings
) -> list[Tensor]:
    """Take all steps of an episode; return the (2,) losses before each, on the device."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    losses: list[Tensor] = []
    while len(losses) < settings.steps and not no_longer_falls(losses, settings.early_stop):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            set_rate(group, rate * rate_factor(settings.schedule, len(losses), settings.steps))
        batches.load()
        losses.append(repeated())
    return losses


def compiled(backbone: nn.Module) -> nn.Module:
    """Return `backbone` compiled by TorchInductor, its parameters shared; once a process, for all later copies, too.

    Every shape of its inputs, and every mode, is compiled apart. Beyond its limit of them PyTorch would go on without
    compiling, and tell nobody; here that fails.
    """
    import torch._dynamo  # no part of `import torch`, and takes a second

    torch._dynamo.config.recompile_limit = COMPILED_VARIANTS
    torch._dynamo.config.accumulated_recompile_limit = 16 * COMPILED_VARIANTS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    module = torch.compile(backbone, dynamic=False)
    assert isinstance(module, nn.Module)
    return module


def make_network(
    task: Task,
    world: World,
    randomness: EpisodeRandomness,
    settings: FinetuneSettings,
    classifier: tuple[Tensor, Tensor] | None,
) -> nn.Sequential:
    """Return a copy of the backbone with a new head, in training mode but for its frozen blocks.

    Arguments:
        classifier: W (K, D) and b (K,) that the head starts from where the settings say so.
    """
    backbone = copy.deepcopy(world.backbone)
    reset_ramp(backbone)
    if settings.dropout == "off":
        set_drop_rate(backbone, 0.0)
    set_generator(backbone, randomness.generator("dropout", world.device))
    head = LinearHead(
        n_features(backbone), task.n_way, normalize=settings.normalize == "on", generator=randomness.generator("head")
    ).to(world.device)
    if settings.head_init == "logistic-regression":
        assert classifier is not None, "a head that starts from a classifier needs one"
        with torch.no_grad():
            head.linear.weight.copy_(classifier[0])
            head.linear.bias.copy_(classifier[1])
    return trained(nn.Sequential(backbone, head), settings)


def trained(network: nn.Sequential, settings: FinetuneSettings) -> nn.Sequential:
    """Return (backbone, head) in training mode, with what the settings freeze frozen.

    With `first_conv="frozen"` the backbone's first convolution is left out, as in the released code: it receives
    gradients that nobody applies, so here it takes none.
    """
    network.requires_grad_(True).train()
    backbone = network[0]
    if settings.first_conv == "frozen":
        next(module for module in backbone.modules() if isinstance(module, nn.Conv2d)).requires_grad_(False)
    for block in blocks(backbone)[: settings.frozen_blocks]:
        block.requires_grad_(False).eval()
    return network


def make_optimizer(network: nn.Sequential, settings: FinetuneSettings) -> torch.optim.SGD:
    """Return SGD with one learning rate for what is trained of the backbone and one for the head.

    Learning rates that change are tensors where steps are captured: a graph would repeat a number for ever.
    """
    backbone, head = network
    body = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    rates: list[float | Tensor] = [settings.lr, settings.head_lr]
    if "graph" in settings.execution and settings.schedule != "constant":
        device = next(head.parameters()).device
        rates = [torch.tensor(rate, device=device) for rate in rates]
    groups = [{"params": body, "lr": rates[0]}, {"params": list(head.parameters()), "lr": rates[1]}]
    return torch.optim.SGD(groups, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=True)


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Set the learning rate of a group of parameters, in place where it is a tensor."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


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
    return bool(after >= before)


def step(
    network: nn.Sequential,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    settings: FinetuneSettings,
    base_loss: BaseLoss | None = None,
    base_weight: float = 1.0,
) -> Tensor:
    """Take one step on `base_weight base_loss + lambda_ce CE(support)` (Label Hallucination eq. 3), or without base.

    Returns:
        (2,) base loss, without its weight, and CE before the step, detached, on the device.
    """
    with stage("forward"):
        loss_base, loss_support = _losses(network, batch, settings, base_loss)
        objective = settings.lambda_ce * loss_support
        if base_loss is not None:
            objective = base_weight * loss_base + objective
    with stage("backward"):
        optimizer.zero_grad(set_to_none=True)
        objective.backward()
    with stage("optimiser"):
        optimizer.step()
    return torch.stack([loss_base.detach(), loss_support.detach()])


def _losses(
    network: nn.Sequential, batch: Batch, settings: FinetuneSettings, base_loss: BaseLoss | None
) -> tuple[Tensor, Tensor]:
    """Return the loss on base images, 0 without any, and on the support."""
    backbone, head = network
    if base_loss is None:
        loss_support = F.cross_entropy(
            head(forward(backbone, batch.support_x, settings.precision)), batch.support_labels
        )
        return torch.zeros_like(loss_support), loss_support
    assert isinstance(settings, BaseFinetuneSettings), "only methods with base images have a loss on them"
    base_features, support_features = joint_features(backbone, batch, settings)
    loss_base = base_loss(batch, base_features, head)
    return loss_base, F.cross_entropy(head(support_features), batch.support_labels)


def joint_features(backbone: nn.Module, batch: Batch, settings: BaseFinetuneSettings) -> tuple[Tensor, Tensor]:
    """Return the features (B, D) of base images and (V, D) of support views, batch statistics joint or split."""
    if settings.batch_norm == "joint":
        n = [len(batch.base_x), len(batch.support_x)]
        base, support = forward(backbone, torch.cat([batch.base_x, batch.support_x]), settings.precision).split(n)
        return base, support
    base = forward(backbone, batch.base_x, settings.precision)
    with running_statistics_kept(backbone):
        return base, forward(backbone, batch.support_x, settings.precision)


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
