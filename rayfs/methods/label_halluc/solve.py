"""Label Hallucination: finetune the whole network on base images that carry soft labels of the novel classes.

Yiren Jian, Lorenzo Torresani. "Label Hallucination for Few-Shot Classification", AAAI 2022, arXiv:2112.03340.
1 fit a linear classifier to the support set on frozen features (eq. 2); 2 label the base images with its logits;
3 finetune backbone and a new head on both (eq. 3). B base images a step, D features, K classes.

Deviation: the base images are labelled from cached features, one matrix product an episode; the released code runs the
backbone over all of them. The numbers are the same.
"""

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayfs.backbones.heads import LinearHead, l2_normalize
from rayfs.engine.distillation import distillation_loss
from rayfs.engine.stages import stage
from rayfs.methods.finetuning.base_rows import base_logits, episode_rows, top_base
from rayfs.methods.finetuning.batches import Batch
from rayfs.methods.finetuning.loop import Step, finetune, make_network, step
from rayfs.methods.frozen import classify, support_classifier
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.method import Solution, Task, World
from rayfs.randomness import EpisodeRandomness


class LabelHallucination:
    """Finetunes a copy of the backbone and a new head on hallucinated soft labels and the support set."""

    def __init__(self, settings: LabelHallucSettings) -> None:
        self.settings = settings

    def solve(self, task: Task, world: World, randomness: EpisodeRandomness) -> Solution:
        """Return the finetuned network's logits of each query."""
        settings = self.settings
        classifier = support_classifier(task, world, randomness, settings.support_views, settings.c)
        with stage("pseudo-labels"):
            labels_NK = base_logits(world.bank, classifier)
            rows = episode_rows(world.bank, settings, randomness, labels_NK)
        with stage("sampling"):
            network = make_network(task, world, randomness, settings, classifier)
        take_step = hallucinating_step(world, classifier, labels_NK, settings)
        solution = finetune(task, world, randomness, settings, network, rows, settings.base_batch, take_step)
        with stage("pseudo-labels"):
            return replace(solution, top_base=top_base(labels_NK, rows))


def hallucinating_step(
    world: World, classifier: tuple[Tensor, Tensor], labels_NK: Tensor, settings: LabelHallucSettings
) -> Step:
    """Return what takes one step on base images with hallucinated labels and on the support.

    Arguments:
        labels_NK: the classifier's logits of all base images as they are.
    """
    hallucinate = partial(hallucinated_logits, world, classifier, labels_NK, settings.pseudo_label_view)

    def loss(batch: Batch, features_BD: Tensor, head: nn.Module) -> Tensor:
        assert isinstance(head, LinearHead)
        logits_BK = base_head_logits(features_BD, head, settings.base_gradient)
        return distillation_loss(logits_BK, hallucinate(batch), settings.temperature)

    return partial(step, settings=settings, base_loss=loss, base_weight=settings.lambda_kl)


@torch.no_grad()
def hallucinated_logits(
    world: World, classifier: tuple[Tensor, Tensor], labels_NK: Tensor, view: str, batch: Batch
) -> Tensor:
    """Return the logits (B, K) that the support's classifier gives the base images of a batch.

    Arguments:
        labels_NK: those of all base images as they are.
        view: "plain" for those, "augmented" for logits of the very views in the batch.
    """
    if view == "augmented":
        return classify(world.backbone(batch.base_x), *classifier)
    return labels_NK[batch.base_rows]


def base_head_logits(features_BD: Tensor, head: LinearHead, gradient: str) -> Tensor:
    """Return the head's logits (B, K) of base images, with gradients to "none", "head", "backbone" or "both" of them.

    Label Hallucination, table 4.
    """
    if gradient in ("none", "head"):
        features_BD = features_BD.detach()
    if gradient in ("head", "both"):
        logits_BK: Tensor = head(features_BD)
        return logits_BK
    features_BD = l2_normalize(features_BD) if head.normalize else features_BD
    return F.linear(features_BD, head.linear.weight.detach(), head.linear.bias.detach())
