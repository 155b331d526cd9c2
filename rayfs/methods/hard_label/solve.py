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

    def __init__(self, config: HardLabelSettings) -> None:
        self.config = config

    def solve(self, task: Task, world: World, randomness: EpisodeRandomness) -> Solution:
        """Return the finetuned network's logits of each query."""
        config = self.config
        classifier = support_classifier(task, world, randomness, config.support_views, config.c)
        labels_NK = base_logits(world.bank, classifier)
        rows = episode_rows(world.bank, config, randomness, labels_NK)
        network = make_network(task, world, randomness, config, classifier)

        def loss(batch: Batch, features_BD: Tensor, head: nn.Module) -> Tensor:
            logits_BK = hallucinated_logits(world, classifier, labels_NK, config.pseudo_label_view, batch)
            return F.cross_entropy(head(features_BD), logits_BK.argmax(1))

        take_step = partial(step, config=config, base_loss=loss, base_weight=config.lambda_base)
        solution = finetune(task, world, randomness, config, network, rows, config.base_batch, take_step)
        return replace(solution, top_base=top_base(labels_NK, rows))
