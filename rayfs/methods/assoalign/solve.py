"""Associative alignment: finetune on related base images, pulled to the centroids of the support classes.

Arman Afrasiyabi, Jean-François Lalonde, Christian Gagné. "Associative Alignment for Few-shot Image Classification",
ECCV 2020; as Label Hallucination ran it for its table 6: SGD, 100 steps, its own learning rates.
B related base images and V support views a step, D features, K classes.

Deviations: one optimiser takes all three parts of a step; base images are related by the logistic regression of frozen
features (`related_rows`); their crops are the episode's usual views.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayfs.backbones.heads import l2_normalize, linear
from rayfs.backbones.registry import n_features
from rayfs.methods.assoalign import AssoAlignSettings
from rayfs.methods.finetuning.base_rows import base_logits, related_rows
from rayfs.methods.finetuning.batches import Batch, forward
from rayfs.methods.finetuning.loop import finetune, make_network
from rayfs.methods.frozen import support_classifier
from rayfs.methods.method import Solution, Task, World
from rayfs.randomness import EpisodeRandomness


class ArcHead(nn.Module):
    """logits_k = s cos(θ_k), θ_k the angle between the features and w_k.

    `margin_logits` adds m to the angle of the true class (arcMax, that is ArcFace: Deng et al., CVPR 2019, eq. 3).
    """

    def __init__(
        self, n_features: int, n_classes: int, scale: float, margin: float, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear(n_features, n_classes, generator).weight.detach())
        self.scale, self.margin = scale, margin

    def forward(self, features_ND: Tensor) -> Tensor:
        """Return logits (N, K) without a margin."""
        return self.scale * (l2_normalize(features_ND) @ l2_normalize(self.weight).T)

    def margin_logits(self, features_ND: Tensor, labels_N: Tensor) -> Tensor:
        """Return logits (N, K), `s cos(θ + m)` for the true class."""
        cosine_NK = l2_normalize(features_ND) @ l2_normalize(self.weight).T
        true_N1 = cosine_NK.gather(1, labels_N[:, None]).clamp(-1 + 1e-7, 1 - 1e-7)  # acos has no slope at ±1
        return self.scale * cosine_NK.scatter(1, labels_N[:, None], (true_N1.acos() + self.margin).cos())


class AssociativeAlignment:
    """Takes three steps in turn: alignment of the backbone, the head on base images, everything on the support."""

    def __init__(self, settings: AssoAlignSettings) -> None:
        self.settings = settings

    def solve(self, task: Task, world: World, randomness: EpisodeRandomness) -> Solution:
        """Return the finetuned network's logits of each query."""
        settings = self.settings
        classifier = support_classifier(task, world, randomness, settings.support_views, settings.c)
        logits = base_logits(world.bank, classifier)
        rows, related_to = related_rows(logits, world.bank.table.labels, settings.related_classes)
        labels_of_rows = np.full(len(world.bank.table), -1)
        labels_of_rows[rows] = related_to
        network = make_network(task, world, randomness, settings, classifier)
        if settings.classifier_loss == "arcmax":
            network[1] = make_arc_head(task, world, randomness, settings, classifier)
        take_step = partial(
            aligned_step, settings=settings, labels_of_rows=torch.from_numpy(labels_of_rows).to(world.device)
        )
        return finetune(task, world, randomness, settings, network, rows, settings.base_batch, take_step)


def make_arc_head(
    task: Task,
    world: World,
    randomness: EpisodeRandomness,
    settings: AssoAlignSettings,
    classifier: tuple[Tensor, Tensor],
) -> ArcHead:
    """Return the head of arcMax, at random or from the directions of the classifier."""
    head = ArcHead(
        n_features(world.backbone), task.n_way, settings.arc_scale, settings.arc_margin,
        generator=randomness.generator("head"),
    ).to(world.device)  # fmt: skip
    if settings.head_init == "logistic-regression":
        with torch.no_grad():
            head.weight.copy_(classifier[0])
    return head


def aligned_step(
    network: nn.Sequential,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    settings: AssoAlignSettings,
    labels_of_rows: Tensor,
) -> Tensor:
    """Take the parts of one step: centroid loss on the backbone; CE of base images on the head; CE of the support.

    The second sees the network in eval mode, as the released code does.

    Returns:
        (2,) CE of base images and of the support before their parts, detached, on the device.
    """
    backbone, head = network
    embed = partial(forward, backbone, precision=settings.precision)
    labels = labels_of_rows[batch.base_rows]
    if settings.centroid_alignment == "on":
        base_features, support_features = embed(batch.base_x), embed(batch.support_x)
        loss = centroid_loss(base_features, labels, support_features, batch.support_labels)
        _descend(optimizer, loss)
    with eval_mode(network), torch.no_grad():
        base_features = embed(batch.base_x)
    loss_base = classification_loss(head, base_features, labels)
    _descend(optimizer, settings.lambda_ce * loss_base)
    loss_support = classification_loss(head, embed(batch.support_x), batch.support_labels)
    _descend(optimizer, settings.lambda_ce * loss_support)
    return torch.stack([loss_base.detach(), loss_support.detach()])


def centroid_loss(base_BD: Tensor, labels_B: Tensor, support_VD: Tensor, support_labels_V: Tensor) -> Tensor:
    """Return the mean of `-log softmax_k(-||z_b - μ_k||²)` at the class each base image is related to.

    μ_k is the mean of class k's support features; a class without a support view in the batch has no centroid.
    """
    present, position_V = support_labels_V.unique(return_inverse=True)
    onehot_VK = F.one_hot(position_V).to(support_VD)
    centroids_KD = (onehot_VK / onehot_VK.sum(0)).T @ support_VD
    known = torch.isin(labels_B, present)
    distances_BK = (base_BD[known][:, None] - centroids_KD).square().sum(2)
    total = F.cross_entropy(-distances_BK, torch.searchsorted(present, labels_B[known]), reduction="sum")
    return total / known.sum().clamp(min=1)  # 0 where no base image has a centroid


def classification_loss(head: nn.Module, features_ND: Tensor, labels_N: Tensor) -> Tensor:
    """Return the cross-entropy of the head, with its margin if it has one."""
    logits = head.margin_logits(features_ND, labels_N) if isinstance(head, ArcHead) else head(features_ND)
    return F.cross_entropy(logits, labels_N)


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Put all modules into eval mode inside the block, and each back to its own mode after it."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
