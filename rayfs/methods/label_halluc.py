"""Label Hallucination: finetune the whole network on base images that carry soft labels of the novel classes.

Yiren Jian, Lorenzo Torresani. "Label Hallucination for Few-Shot Classification", AAAI 2022, arXiv:2112.03340.
1 fit a linear classifier to the support set on frozen features (eq. 2); 2 label the base images with its logits;
3 finetune backbone and a new head on both (eq. 3). B base images and V support views a step, D features, K classes.

Deviation: pseudo-logits are made for the rows of the current mini-batch from cached features; the released code runs
the backbone over all base images in every episode. The numbers are the same.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from rayfs.backbones.heads import LinearHead
from rayfs.backbones.registry import n_features
from rayfs.backbones.regularisation import reset_ramp, set_drop_rate, set_generator
from rayfs.engine.distillation import distillation_loss
from rayfs.methods.frozen import classify, support_classifier, tile_support
from rayfs.methods.method import Solution, Task, World
from rayfs.methods.recipes import LabelHallucConfig
from rayfs.randomness import EpisodeRandomness


class BaseSampler:
    """Rows of the base set in random order without replacement, pass after pass; incomplete batches are dropped."""

    def __init__(self, n_rows: int, batch: int, generator: torch.Generator) -> None:
        if batch > n_rows:
            raise ValueError(f"a batch of {batch} base images was asked of {n_rows}")
        self._n_rows, self._batch, self._generator = n_rows, batch, generator
        self._order, self._next = torch.empty(0, dtype=torch.int64), 0

    def draw(self) -> torch.Tensor:
        """Return the rows (batch,) int64 of the next mini-batch."""
        if self._next + self._batch > len(self._order):
            self._order, self._next = torch.randperm(self._n_rows, generator=self._generator), 0
        rows = self._order[self._next : self._next + self._batch]
        self._next += self._batch
        return rows


class LabelHallucination:
    """Finetunes a copy of the backbone and a new head for `config.steps` steps."""

    def __init__(self, config: LabelHallucConfig) -> None:
        self.config = config

    def solve(self, task: Task, world: World, randomness: EpisodeRandomness) -> Solution:
        """Return the finetuned network's logits of each query, in eval mode (running batch statistics)."""
        config, device = self.config, world.device
        teacher = support_classifier(task, world, randomness, config.support_views, config.c)
        network = make_network(task, world, randomness, config, teacher)
        optimizer = make_optimizer(network, config)
        images, labels = tile_support(task, config.step_views)
        images, labels = images.to(device), labels.to(device)
        base_rows = BaseSampler(len(world.bank.table), config.base_batch, randomness.generator("base rows"))
        views = randomness.generator("finetuning views", device)
        for _ in range(config.steps):
            rows = base_rows.draw().numpy()
            base_x = world.views(world.bank.table.take(rows), views)
            support_x = world.views(images, views)
            with torch.no_grad():
                base_features = (
                    world.bank.take_features(rows).to(device)
                    if config.pseudo_label_view == "plain"
                    else world.backbone(base_x)
                )
                pseudo_logits = classify(base_features, *teacher)
            losses = step(network, optimizer, base_x, pseudo_logits, support_x, labels, config)
        loss_kl, loss_ce = losses.tolist()
        network.eval()
        with torch.no_grad():
            logits = network(world.plain(task.query_images)).float().cpu()
        return Solution(logits=logits, steps=config.steps, loss_base=loss_kl, loss_support=loss_ce)


def make_network(
    task: Task,
    world: World,
    randomness: EpisodeRandomness,
    config: LabelHallucConfig,
    teacher: tuple[torch.Tensor, torch.Tensor],
) -> nn.Sequential:
    """Return a copy of the backbone with a new head, in training mode."""
    backbone = copy.deepcopy(world.backbone)
    reset_ramp(backbone)
    if config.dropout == "off":
        set_drop_rate(backbone, 0.0)
    set_generator(backbone, randomness.generator("dropout", world.device))
    head = LinearHead(
        n_features(backbone), task.n_way, normalize=config.normalize == "on", generator=randomness.generator("head")
    ).to(world.device)
    if config.head_init == "logistic-regression":
        with torch.no_grad():
            head.linear.weight.copy_(teacher[0])
            head.linear.bias.copy_(teacher[1])
    return nn.Sequential(backbone, head).requires_grad_(True).train()


def make_optimizer(network: nn.Sequential, config: LabelHallucConfig) -> torch.optim.SGD:
    """Return SGD with one learning rate for the backbone and one for the head.

    With `first_conv="frozen"` the backbone's first convolution is left out, as in the released code: it receives
    gradients that nobody applies, so here it takes none.
    """
    backbone, head = network
    if config.first_conv == "frozen":
        first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
        first.requires_grad_(False)
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    groups = [{"params": trained, "lr": config.lr}, {"params": list(head.parameters()), "lr": config.head_lr}]
    return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)


def step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    base_x: torch.Tensor,
    pseudo_logits: torch.Tensor,
    support_x: torch.Tensor,
    support_labels: torch.Tensor,
    config: LabelHallucConfig,
) -> torch.Tensor:
    """Take one step on `lambda_kl L_KL(base) + lambda_ce CE(support)` (eq. 3).

    Arguments:
        base_x: (B, C, H, W); pseudo_logits: (B, K); support_x: (V, C, H, W); support_labels: (V,).

    Returns:
        (2,) L_KL (with its T²) and CE before the step, detached, on the device.
    """
    if config.batch_norm == "joint":
        base_logits, support_logits = network(torch.cat([base_x, support_x])).split([len(base_x), len(support_x)])
    else:
        base_logits = network(base_x)
        with running_statistics_kept(network):
            support_logits = network(support_x)
    loss_kl = distillation_loss(base_logits, pseudo_logits, config.temperature)
    loss_ce = F.cross_entropy(support_logits, support_labels)
    optimizer.zero_grad(set_to_none=True)
    (config.lambda_kl * loss_kl + config.lambda_ce * loss_ce).backward()
    optimizer.step()
    return torch.stack([loss_kl.detach(), loss_ce.detach()])


@contextmanager
def running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Let batch norm use batch statistics inside the block without moving its running ones or their batch counter."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
