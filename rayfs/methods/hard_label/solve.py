"""Hard pseudo-labels: Label Hallucination with the most probable class instead of soft labels.

Yiren Jian, Lorenzo Torresani. "Label Hallucination for Few-Shot Classification", AAAI 2022, table 3.
"""

from dataclasses import replace
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from rayfs.methods.finetuning.base_rows import base_logits, episode_rows, top_base
from rayfs.methods.finetuning.batches import Batch
from rayfs.methods.finetuning.loop import finetune, make_network, step
from rayfs.methods.frozen import support_classifier
from rayfs.methods.hard_label import HardLabelSettings
from rayfs.methods.label_halluc.solve import hallucinated_logits
from rayfs.methods.method import Solution, Task, World
from rayfs.randomness import EpisodeRandomness


class HardLabel:
    """Finetunes on `lambda_base CE(base, arg max of the hallucinated label) + lambda_ce CE(support)`."""

    def __init__(self, settings: HardLabelSettings) -> None:
        self.settings = settings

    def solve(self, task: Task, world: World, randomness: EpisodeRandomness) -> Solution:
        """Return the finetuned network's logits of each query."""
        settings = self.settings
        classifier = support_classifier(task, world, randomness, settings.support_views, settings.c)
        labels_NK = base_logits(world.bank, classifier)
        rows = episode_rows(world.bank, settings, randomness, labels_NK)
        network = make_network(task, world, randomness, settings, classifier)

        def loss(batch: Batch, features_BD: Tensor, head: nn.Module) -> Tensor:
            logits_BK = hallucinated_logits(world, classifier, labels_NK, settings.pseudo_label_view, batch)
            return F.cross_entropy(head(features_BD), logits_BK.argmax(1))

        take_step = partial(step, settings=settings, base_loss=loss, base_weight=settings.lambda_base)
        solution = finetune(task, world, randomness, settings, network, rows, settings.base_batch, take_step)
        return replace(solution, top_base=top_base(labels_NK, rows))
